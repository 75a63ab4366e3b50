"""IO binding: the code that a CUDA host runs, here with the host itself as the device."""

import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from spillover.cloud.executors.io_binding import BoundRunner, bound_runner, padded_rows, padded_sizes
from spillover.cloud.executors.local import Network
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.model.session import open_session
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import ModelId
from tests.support.models import centre_detector, identity

CPU = SessionConfig(threads=1, providers=("CPUExecutionProvider",))


def network(folder):
    """A network from a folder."""
    return Network(ModelId("n", "1"), open_session(folder / MODEL_FILE, CPU))


def _first_row(folder):
    """Says that it gives as many rows as it gets, and gives the first alone."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["INPUT0", "zero"], ["OUTPUT0"])],
        "first",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["M", 4])],
        [numpy_helper.from_array(np.array([0], np.int64), "zero")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
        folder / MODEL_FILE,
    )
    return folder


@pytest.fixture
def echo(tmp_path):
    """A network that gives back what it gets, any number of rows of 4 floats."""
    return network(identity(tmp_path))


def rows_of(count, start=0.0):
    """Rows that all differ."""
    return np.arange(start, start + 4 * count, dtype=np.float32).reshape(count, 4)


@pytest.mark.parametrize("pads", [False, True])
def test_every_number_of_rows_comes_back(echo, pads):
    """Whatever the rows, in whatever order, the outputs are those rows and no padding."""
    runner = BoundRunner(echo.session, echo.inputs, "cpu")
    for count in (1, 3, 16, 5, 3, 1, 70, 2):
        (output,) = runner.run([rows_of(count, count)], pads=pads)
        np.testing.assert_array_equal(output, rows_of(count, count))


def test_an_answer_is_not_overwritten_by_the_next(echo):
    """Buffers are used again, answers are not: they wait for their clients."""
    runner = BoundRunner(echo.session, echo.inputs, "cpu")
    (first,) = runner.run([rows_of(3)], pads=True)
    runner.run([rows_of(3, 100.0)], pads=True)
    np.testing.assert_array_equal(first, rows_of(3))


def test_threads_do_not_share_buffers(echo):
    """Several instances run one network at once; each gets its own values."""
    runner = BoundRunner(echo.session, echo.inputs, "cpu")
    wrong: list[int] = []

    def work(number):
        for turn in range(200):
            sent = rows_of(1 + turn % 5, 1000.0 * number + turn)
            if not np.array_equal(runner.run([sent], pads=True)[0], sent):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_many_shapes_keep_memory_bounded(tmp_path):
    """Shapes come and go; only the last few keep their buffers."""
    echo = network(identity(tmp_path))
    runner = BoundRunner(echo.session, echo.inputs, "cpu")
    for count in range(1, 60):
        runner.run([rows_of(count)], pads=False)
    assert len(runner._of_thread.lanes) == 16


def test_a_fixed_batch_is_left_alone(tmp_path):
    """A network with a batch of one gives what the plain session gives."""
    detector = network(centre_detector(tmp_path))
    image = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    runner = BoundRunner(detector.session, detector.inputs, "cpu")
    for bound, plain in zip(runner.run([image], pads=False), detector.run([image]), strict=True):
        np.testing.assert_array_equal(bound, plain)


@pytest.mark.parametrize(("rows", "padded"), [(1, 1), (2, 2), (3, 4), (5, 8), (16, 16), (64, 64), (65, 65)])
def test_rows_are_padded_to_powers_of_two(rows, padded):
    """Few shapes for cuDNN to search through; what is large already is not blown up."""
    assert padded_rows(rows) == padded


def test_all_that_rows_are_padded_to_is_met_in_the_warm_up(echo):
    """The shapes of a batch of up to twelve rows have their buffers before the first request."""
    echo._bound = BoundRunner(echo.session, echo.inputs, "cpu")
    echo.warm_up(1, 12)
    assert padded_sizes(12) == [1, 2, 4, 8, 16]
    assert sorted(shapes[0][0] for shapes in echo._bound._of_thread.lanes) == [1, 2, 4, 8, 16]
    assert echo.batchable


@pytest.mark.parametrize("rows", [2, 12])
def test_a_network_that_breaks_its_promise_is_found_out(tmp_path, rows):
    """One that gives a single row for any batch is run a request at a time, padded or not."""
    one = network(_first_row(tmp_path))
    one._bound = BoundRunner(one.session, one.inputs, "cpu")
    one.warm_up(1, rows)
    assert not one.batchable
    np.testing.assert_array_equal(one.run([rows_of(3)])[0], rows_of(1))


def test_on_the_cpu_nothing_is_bound(tmp_path):
    """Without CUDA the plain session runs, as it always did; so it does for text."""
    assert bound_runner(network(identity(tmp_path)).session, ()) is None
    text = network(identity(tmp_path, "text", element=TensorProto.STRING))
    assert bound_runner(text.session, text.inputs) is None
