"""The executor over a runtime of this process: what it learns of its network, and how it fills up batches."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from spillover.cloud.executors.base import NetworkSpecs
from spillover.cloud.executors.local import LocalExecutor, padded_rows
from spillover.common.errors import ModelError
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.model.runtimes.base import Device, TensorSpec
from spillover.common.types import ModelId
from tests.support.executors import local_executor
from tests.support.models import centre_detector, identity


class OnGpu:
    """The runtime of another executor, as if on a GPU; notes the rows of its runs."""

    device = Device.GPU

    def __init__(self, executor: LocalExecutor) -> None:
        self._runtime = executor._runtime
        self.inputs, self.outputs = self._runtime.inputs, self._runtime.outputs
        self.platform = self._runtime.platform
        self.rows: list[int] = []

    def run(self, inputs):
        """Run, and note."""
        self.rows.append(len(inputs[0]))
        return self._runtime.run(inputs)

    def close(self) -> None:
        """Close it."""
        self._runtime.close()


def first_row(folder):
    """A network that says that it gives as many rows as it gets, and gives the first alone."""
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


def specs_of(*shapes, dtype=np.float32):
    """Specs of a network with these shapes, the last of which is its output's."""
    specs = tuple(TensorSpec(f"T{index}", np.dtype(dtype), shape) for index, shape in enumerate(shapes))
    return NetworkSpecs.of(specs[:-1], specs[-1:])


@pytest.mark.parametrize(
    ("shapes", "batchable", "fixed_rows"),
    [
        (((-1, 4), (-1, 2)), True, None),
        (((4, 4), (4, 2)), False, 4),
        (((-1, 4), (4, 2)), False, None),
        (((-1, 4), (-1, 4), (-1,)), True, None),
        (((-1, 4), ()), False, None),
        (((), ()), False, None),
    ],
)
def test_the_first_axis_is_the_batch_where_all_have_it(shapes, batchable, fixed_rows):
    """Free everywhere: requests are joined. One length everywhere: runs have that many rows. Else neither."""
    specs = specs_of(*shapes)
    assert (specs.batchable, specs.fixed_rows) == (batchable, fixed_rows)


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [
        (((-1, 4), (-1, 4)), 31),  # 32 bytes a row
        (((2, 100), (2, 25)), 2),  # 1000 bytes in all
        (((2, 100), (2, 26)), 0),
        (((-1, -1), (-1, 4)), 0),
        (((-1, 4), (-1, -1)), 0),
        (((-1, 4), (4, 4)), 0),
        (((4,), (8,)), 1),
    ],
)
def test_bytes_of_a_run_are_known_where_shapes_are_fixed(shapes, rows):
    """Rows whose inputs and outputs are at most 1000 bytes; 0 where another axis than the batch is free."""
    assert specs_of(*shapes).rows_within(1000) == rows


def test_bytes_of_text_are_not_known():
    """A string may have any length."""
    assert specs_of((-1, 4), (-1, 4), dtype=np.object_).rows_within(1000) == 0


def test_outputs_are_given_by_name():
    """All of them, or those that were asked for, in that order."""
    specs = specs_of((-1, 4), (-1, 4))
    output = np.zeros((1, 4), np.float32)
    assert specs.named([output]) == {"T1": output}
    assert specs.named([output], ["T1"]) == {"T1": output}


@pytest.mark.parametrize(("rows", "padded"), [(1, 1), (2, 2), (3, 4), (5, 8), (16, 16), (64, 64), (65, 65)])
def test_rows_are_padded_to_powers_of_two(rows, padded):
    """Few shapes for cuDNN to search through; what is large already is not blown up."""
    assert padded_rows(rows) == padded


def test_all_that_rows_are_padded_to_is_met_in_the_warm_up(tmp_path):
    """On a GPU the shapes of a batch of up to twelve rows have been run before the first request."""
    runtime = OnGpu(local_executor(identity(tmp_path)))
    executor = LocalExecutor(ModelId("n", "1"), runtime)
    executor.warm_up(1, 12)
    assert sorted(set(runtime.rows)) == [1, 2, 4, 8, 16]
    assert executor.specs.batchable
    assert [executor.run_rows(rows) for rows in (1, 3, 12)] == [1, 4, 16]


@pytest.mark.parametrize("rows", [2, 12])
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("gpu", [False, True])
def test_a_network_that_breaks_its_promise_is_found_out(tmp_path, rows, runs, gpu):
    """One that gives a single row for any batch is run a request at a time, and nothing is filled up."""
    one = local_executor(first_row(tmp_path))
    if gpu:
        one = LocalExecutor(ModelId("n", "1"), OnGpu(one))
    one.warm_up(runs, rows)
    assert not one.specs.batchable
    assert one.run_rows(3) == 3
    np.testing.assert_array_equal(one.run([np.ones((3, 4), np.float32)])[0], np.ones((1, 4)))


def test_a_fixed_batch_is_filled_up(tmp_path):
    """A network with a batch of one runs one row, on whatever device."""
    executor = local_executor(centre_detector(tmp_path))
    executor.warm_up(1)
    assert executor.run_rows(1) == executor.specs.fixed_rows == 1


def test_the_warm_up_teaches_what_runs_cost(tmp_path):
    """Afterwards the time of any number of rows can be expected."""
    executor = local_executor(identity(tmp_path))
    executor.warm_up(3)
    assert 0 < executor.latency.expected_s(1) <= executor.latency.expected_s(5) < 60


def test_a_stopped_executor_has_let_go_of_its_network(tmp_path):
    """What still comes is an error that names the model."""
    executor = local_executor(identity(tmp_path))
    assert executor.stop(0.0)
    with pytest.raises(ModelError, match="model n@1: the network is closed"):
        executor.run([np.ones((1, 4), np.float32)])
