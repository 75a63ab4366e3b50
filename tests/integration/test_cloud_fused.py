"""A fused model on a real server: found, tried, warmed, described, batched, reloaded as any model."""

import shutil
import threading

import grpc
import numpy as np
import pytest

from spillover.cloud.models.loader import load_spec_of
from spillover.cloud.models.repository import Repository
from spillover.cloud.models.trial import memory_allowance
from spillover.cloud.models.trials import Trials
from spillover.common.errors import ModelError
from spillover.common.model.ensemble.opening import load_model
from spillover.common.types import ModelId
from spillover.common.wire.conversion import reply_from_pb
from spillover.common.wire.pb import open_inference_pb2 as oip
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2 as pb
from tests.support.models import bright_detector, centre_detector, fuse
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of

CALLERS = 12


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A fused model of two detectors with free batch axes, and one with a member of one row at a time."""
    parts, root = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("repository")
    small = bright_detector(parts, "small")
    large = bright_detector(parts, "large", box=(0.25, 0.35, 0.75, 0.85), gain=0.5, side=32)
    fuse(root, small, large, iou_threshold=0.6)
    fuse(root, centre_detector(parts, "fixed"), large, name="mixed", iou_threshold=0.6)
    return root


@pytest.fixture(scope="module")
def server(repository):
    """A server that waits a little for batches."""
    config = cloud_config(repository, batching={"max_batch_size": 8, "max_queue_delay_s": 0.02})
    with serving(config) as running:
        yield running


@pytest.mark.parametrize("name", ["fused", "mixed"])
def test_it_answers_as_in_this_process(repository, server, name):
    """The boxes over the wire are those of the same folder in this process, for pictures of any size."""
    local = load_model(repository / name / "1")
    with stub_of(server) as stub:
        for width, height in [(64, 48), (640, 480), (31, 200)]:
            jpeg = jpeg_of((255, 255, 255), width, height)
            answer = reply_from_pb(stub.Infer(request_for(jpeg, name), timeout=CALL_S)).prediction
            expected = local.predict_jpeg(jpeg, 10**9)
            np.testing.assert_allclose(answer.xyxy, expected.xyxy, atol=0.01)
            np.testing.assert_allclose(answer.confidence, expected.confidence, atol=1e-3)
            assert len(answer) == 1


def test_requests_share_runs_and_keep_their_own_placements(repository, server):
    """Twelve callers at once with pictures of twelve sizes: each gets the box of its own picture."""
    local = load_model(repository / "fused" / "1")
    pictures = [jpeg_of((255, 255, 255), 40 + 16 * n, 300 - 16 * n) for n in range(CALLERS)]
    found: list[object] = [None] * CALLERS
    begin = threading.Barrier(CALLERS)

    def ask(number: int) -> None:
        begin.wait(CALL_S)
        found[number] = reply_from_pb(stub.Infer(request_for(pictures[number], "fused"), timeout=CALL_S))

    with stub_of(server) as stub:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(CALL_S)
    with grpc.insecure_channel(server.address) as channel:
        peer = oip_grpc.GRPCInferenceServiceStub(channel)
        statistics = peer.ModelStatistics(oip.ModelStatisticsRequest(name="fused"), timeout=CALL_S)
    for number, reply in enumerate(found):
        expected = local.predict_jpeg(pictures[number], 10**9)
        np.testing.assert_allclose(reply.prediction.xyxy, expected.xyxy, atol=0.01)
    assert any(batch.batch_size > 1 for batch in statistics.model_stats[0].batch_stats)


def test_it_is_listed_and_described(server):
    """It is a detection model of two inputs, whose tensors bear their member's name."""
    with stub_of(server) as stub:
        listed = {one.model.name: one.task for one in stub.ListModels(pb.ListModelsRequest()).models}
    assert listed == {"fused": "detection", "mixed": "detection"}
    with grpc.insecure_channel(server.address) as channel:
        peer = oip_grpc.GRPCInferenceServiceStub(channel)
        metadata = peer.ModelMetadata(oip.ModelMetadataRequest(name="fused"), timeout=CALL_S)
    assert [(one.name, list(one.shape)) for one in metadata.inputs] == [
        ("small/image", [-1, 3, 16, 16]),
        ("large/image", [-1, 3, 32, 32]),
    ]
    assert [one.name for one in metadata.outputs] == ["small/found", "large/found"]


def test_the_repository_sees_it_as_one_model(repository, tmp_path):
    """Its members are no models of their own; a folder without model.yaml is not taken for one."""
    shutil.copytree(repository / "fused", tmp_path / "fused")
    shutil.copytree(repository / "fused" / "1", tmp_path / "fused" / "10")
    shutil.copytree(repository / "fused" / "1", tmp_path / "fused" / "2")
    (tmp_path / "fused" / "2" / "model.yaml").unlink()
    found = Repository(tmp_path)
    assert found.names() == ["fused"]
    assert found.all_versions() == [ModelId("fused", "1"), ModelId("fused", "10")]


def test_a_change_to_a_member_is_seen(repository, tmp_path):
    """Spec, trial and allowance go by the members' files, so a reload takes a changed member."""
    shutil.copytree(repository / "fused", tmp_path / "fused")
    entry = Repository(tmp_path).find("fused")
    config = cloud_config(tmp_path)
    before, allowed = load_spec_of(entry, config), memory_allowance(entry)
    trials = Trials()
    manifest = trials.open(entry, before).vision.manifest
    assert manifest.members == ("small", "large")
    path = entry.path / "large" / "model.yaml"
    path.write_text(path.read_text().replace("confidence_threshold: 0.01", "confidence_threshold: 0.015"))
    assert load_spec_of(entry, config) != before
    (entry.path / "large" / "model.onnx").write_bytes(b"x" * 100_000)
    assert memory_allowance(entry) > allowed
    with pytest.raises(ModelError, match=r"fused/1/large/model\.onnx: sha256"):
        trials.open(entry, load_spec_of(entry, config))


def test_a_member_that_leads_out_of_the_repository_is_refused(repository, tmp_path):
    """As any link: what nobody put there to be served is not served."""
    shutil.copytree(repository / "fused", tmp_path / "inside" / "fused")
    entry = Repository(tmp_path / "inside").find("fused")
    shutil.move(entry.path / "large", tmp_path / "large")
    (entry.path / "large").symlink_to(tmp_path / "large")
    with pytest.raises(ModelError, match="leads out of the repository"):
        Trials().open(entry, load_spec_of(entry, cloud_config(tmp_path / "inside")))
