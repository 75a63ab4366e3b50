"""Runtimes: what a network is by its file, IO binding with the host as the device, and no telemetry."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from onnx import TensorProto, helper

from spillover.common.errors import InputRefusedError, ModelError
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.model.runtimes.base import Device, TensorSpec
from spillover.common.model.runtimes.onnxruntime import CPU, BoundSession, open_runtime
from spillover.common.model.session_config import SessionConfig
from tests.support.models import centre_detector, fragile_classifier, identity, save_network

ONE_THREAD = SessionConfig(threads=1, providers=(CPU,))

# The interpreter reports an import before it looks for the module.
WATCH = """
import os, sys

def hook(event, args):
    if event == "import" and args[0] == "onnxruntime":
        print("telemetry is off:", os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.addaudithook(hook)
"""


def opened(folder):
    """The network in a folder."""
    return open_runtime(folder / MODEL_FILE, ONE_THREAD)


def rows_of(count, start=0.0):
    """Rows that all differ."""
    return np.arange(start, start + 4 * count, dtype=np.float32).reshape(count, 4)


@pytest.fixture
def echo(tmp_path):
    """A network that gives back what it gets, any number of rows of 4 floats."""
    return opened(identity(tmp_path))


@pytest.fixture
def bound(echo):
    """The same with its buffers bound, on the host."""
    return BoundSession(echo._session, echo.inputs, "cpu")


@pytest.mark.parametrize(
    "module",
    [
        "spillover.edge.assembly.daemon",
        "spillover.cloud.server",
        "spillover.lab.models.quantize.quantization",
        "spillover.lab.models.profile.timing",
        "spillover.lab.split.plan",
    ],
)
def test_telemetry_is_off_before_onnxruntime_is_loaded(module):
    """In a fresh process of either side or the workbench, the variable is set when the import begins."""
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", f"{WATCH}\nimport {module}"],
        check=True, capture_output=True, text=True, env=environ,
    )  # fmt: skip
    assert set(done.stdout.splitlines()) == {"telemetry is off: 1"}


def test_an_operator_who_wants_telemetry_can_have_it():
    """A value that is set already stays."""
    done = subprocess.run(
        [sys.executable, "-c", f"{WATCH}\nimport spillover.common.model.runtimes.onnxruntime"],
        check=True, capture_output=True, text=True, env=os.environ | {"ORT_DISABLE_TELEMETRY": "0"},
    )  # fmt: skip
    assert set(done.stdout.splitlines()) == {"telemetry is off: 0"}


def test_a_network_says_what_it_takes_and_gives(tmp_path):
    """Names, dtypes and shapes, with -1 for a free axis; and where it computes."""
    runtime = opened(identity(tmp_path, element=TensorProto.STRING))
    assert runtime.inputs == (TensorSpec("INPUT0", np.dtype(np.object_), (-1, 4)),)
    assert runtime.outputs == (TensorSpec("OUTPUT0", np.dtype(np.object_), (-1, 4)),)
    assert (runtime.device, runtime.platform) == (Device.CPU, "onnxruntime_onnx")


def test_a_type_that_no_array_has_is_refused(tmp_path):
    """The error names file, tensor and type."""
    with pytest.raises(ModelError, match=r"model\.onnx: INPUT0 is of type tensor\(bfloat16\)"):
        opened(identity(tmp_path, element=TensorProto.BFLOAT16))


def test_a_failure_and_a_closed_network_are_model_errors(echo):
    """Wrong inputs raise ModelError, and so does every run after `close`."""
    with pytest.raises(InputRefusedError, match="Got invalid dimensions"):
        echo.run([np.zeros((1, 5), np.float32)])
    echo.close()
    with pytest.raises(ModelError, match="closed"):
        echo.run([rows_of(1)])


def test_values_that_a_network_cannot_compute_with_are_told_from_a_failure_of_the_machine(tmp_path):
    """An index out of range is the input's fault; memory that is not there is not."""
    red = np.zeros((1, 3, 16, 16), np.float32)
    red[:, 0] = 1.0
    with pytest.raises(InputRefusedError, match="out of data bounds"):
        opened(fragile_classifier(tmp_path, "index")).run([red])
    with pytest.raises(ModelError, match="ONNX Runtime failed") as failed:
        opened(fragile_classifier(tmp_path, "memory")).run([red])
    assert type(failed.value) is ModelError


@pytest.mark.parametrize(
    ("operator", "kinds", "values", "rank"),
    [
        ("Add", "FLOAT FLOAT", (np.ones(5), np.ones(3)), 1),
        ("MatMul", "FLOAT FLOAT", (np.ones((2, 3)), np.ones((2, 3))), 2),
        ("Reshape", "FLOAT INT64", (np.ones(5), np.array([2, 3])), 2),
        ("Expand", "FLOAT INT64", (np.ones(1), np.array([-7])), 1),
        ("Cast", "STRING", (np.array(["no number"], object),), 1),
    ],
)
def test_whatever_class_an_operator_fails_with_its_input_is_refused(tmp_path, operator, kinds, values, rank):
    """ONNX Runtime raises several classes for what a sender can cause."""
    types = [getattr(TensorProto, kind) for kind in kinds.split()]
    names = [f"INPUT{number}" for number in range(len(types))]
    options = {"to": TensorProto.FLOAT} if operator == "Cast" else {}
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["OUTPUT0"], **options)],
        "one",
        [
            helper.make_tensor_value_info(name, kind, [f"{name}.{axis}" for axis in range(value.ndim)])
            for name, kind, value in zip(names, types, values, strict=True)
        ],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, [f"o{axis}" for axis in range(rank)])],
    )
    network = opened(save_network(graph, tmp_path / "one" / "1"))
    feed = [value.astype(spec.dtype) for value, spec in zip(values, network.inputs, strict=True)]
    with pytest.raises(InputRefusedError, match=f"while running {operator} node"):
        network.run(feed)


def test_a_provider_that_is_not_there_is_named(tmp_path):
    """The error says which, and which there are."""
    path = identity(tmp_path) / MODEL_FILE
    with pytest.raises(ModelError, match=r"NoSuchProvider is not in this onnxruntime; it has .*CPU"):
        open_runtime(path, SessionConfig(providers=("NoSuchProvider",)))


def test_bound_buffers_give_every_number_of_rows_back(bound):
    """Whatever the rows, in whatever order, the outputs are those rows."""
    for count in (1, 3, 16, 5, 3, 1, 70, 2):
        (output,) = bound.run([rows_of(count, count)])
        np.testing.assert_array_equal(output, rows_of(count, count))


def test_an_answer_is_not_overwritten_by_the_next(bound):
    """Buffers are used again, answers are not: they wait for their clients."""
    (first,) = bound.run([rows_of(3)])
    bound.run([rows_of(3, 100.0)])
    np.testing.assert_array_equal(first, rows_of(3))


def test_threads_do_not_share_buffers(bound):
    """Several instances run one network at once; each gets its own values."""
    wrong: list[int] = []

    def work(number):
        for turn in range(200):
            sent = rows_of(1 + turn % 5, 1000.0 * number + turn)
            if not np.array_equal(bound.run([sent])[0], sent):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_many_shapes_keep_memory_bounded(bound):
    """Shapes come and go; only the last few keep their buffers."""
    for count in range(1, 60):
        bound.run([rows_of(count)])
    assert len(bound._of_thread.bindings) == 16


def test_bound_and_plain_runs_say_the_same(tmp_path):
    """A network with a batch of one gives what the plain session gives."""
    detector = opened(centre_detector(tmp_path))
    image = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    bound = BoundSession(detector._session, detector.inputs, "cpu")
    for one, plain in zip(bound.run([image]), detector.run([image]), strict=True):
        np.testing.assert_array_equal(one, plain)


def test_on_the_cpu_nothing_is_bound(echo):
    """Without CUDA the plain session runs."""
    assert echo._bound is None
