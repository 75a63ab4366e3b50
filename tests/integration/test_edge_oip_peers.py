"""The edge with a real Triton and a real MLServer as its cloud. `make oip-peers` prepares both."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.cloud import mlserver, triton
from benchmarks.cloud.contenders import Contender, NotHereError
from benchmarks.cloud.environments import is_prepared
from benchmarks.cloud.networks import NetworkSpec
from benchmarks.cloud.peers import ENGINE, REQUIREMENTS
from spillover.common.model.manifest import MODEL_FILE
from tests.integration.test_edge_oip import Bench
from tests.support.models import SIDE

PEERS = {"triton": triton.triton, "mlserver": mlserver.mlserver}


def _colour() -> onnx.GraphProto:
    """The mean of each channel, eight times: red, green or blue."""
    return helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["INPUT0"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Mul", ["flat", "gain"], ["OUTPUT0"]),
        ],
        "colour",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.float32(8.0), "gain")],
    )


SPEC = NetworkSpec("colour", (3, SIDE, SIDE), (3,), 4, "names the colour", _colour)


@pytest.fixture(params=sorted(PEERS))
def peer(request, tmp_path) -> Iterator[Contender]:
    """A running server with the one network, where its environment has been prepared."""
    if not is_prepared(request.param, REQUIREMENTS[request.param]):
        pytest.skip(f"{request.param} is not installed here: `make oip-peers` prepares it")
    folder = tmp_path / "repository" / SPEC.name / "1"
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(SPEC.build(), opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
        folder / MODEL_FILE,
    )
    try:
        with PEERS[request.param](tmp_path / "repository", tmp_path, ENGINE, [SPEC]) as contender:
            yield contender
    except NotHereError as error:
        pytest.skip(str(error))


def test_a_server_that_is_not_ours_answers(peer, tmp_path):
    """Each frame is answered by that server's network, named by it, with the edge's own answer as a check."""
    bench = Bench(tmp_path)
    bench.paint("red", "green", "blue")
    oip = bench.oip | {"input": "INPUT0", "outputs": ["OUTPUT0"]}
    records = bench.run(peer.address, {"oip": oip})
    assert [record.answered_by for record in records] == ["cloud"] * 3, [record.error for record in records]
    assert [record.classes[0].class_id for record in records] == [0, 1, 2]
    np.testing.assert_allclose([record.classes[0].probability for record in records], 0.9993, atol=1e-3)
    assert {record.model.name for record in records} == {"colour"}


def test_a_model_that_it_does_not_have_is_named(peer, tmp_path):
    """A wrong name in the configuration: the frame has its local answer, and the record says why."""
    bench = Bench(tmp_path)
    bench.paint("green")
    oip = bench.oip | {"input": "INPUT0", "outputs": ["OUTPUT0"]}
    [record] = bench.run(peer.address, {"oip": oip, "model_name": "nobody"})
    assert (record.answered_by, record.classes[0].class_id) == ("edge_degraded", 1)
    assert "nobody" in record.error
