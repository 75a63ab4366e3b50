"""Features instead of pictures: real head, real codec, real gRPC, real tail."""

import grpc
import numpy as np
import pytest

from spillover.cloud.executors.local import LocalExecutor
from spillover.common.features.codec import encode_features
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import head_path, open_split_plan
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.lab.split.extract import Half
from tests.support.serving import CALL_S, cloud_config, serving, stub_of
from tests.support.splitting import coloured_pictures, residual_classifier, split_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A split model in a repository."""
    folder = residual_classifier(tmp_path_factory.mktemp("repository"))
    split_classifier(folder)
    return folder


@pytest.fixture(scope="module")
def stub(folder):
    """A client of a server with that repository."""
    with serving(cloud_config(folder.parent.parent)) as server, stub_of(server) as stub:
        yield stub


@pytest.fixture(scope="module")
def plan(folder):
    """What split.yaml says."""
    return open_split_plan(open_model_folder(folder))


def _features_of(folder, cut, image):
    model = Model.load(folder, SessionConfig(threads=1))
    head = Half(head_path(folder, cut.name), threads=1)
    tensors = [tensor[0] for tensor in head.run([model.prepare(image)[0][None]])]
    return encode_features(tensors, [seam.quantizer for seam in cut.seams])


def _request(cut, data):
    features = pb.Features(head_sha256=bytes.fromhex(cut.head_sha256), data=data)
    return pb.InferRequest(frame_id="f1", features=features)


def test_tails_can_be_left_out(folder, plan):
    """With `models.tails: false` features are refused, with the status that makes the edge send pictures."""
    models = {"repository": str(folder.parent.parent), "tails": False}
    with serving(cloud_config(folder, models=models)) as server, stub_of(server) as stub:
        with pytest.raises(grpc.RpcError) as refused:
            stub.Infer(_request(plan.cuts[0], b"x"), timeout=CALL_S)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_every_cut_answers_like_the_whole_network(folder, plan, stub):
    """Head here, tail there: the class is the whole network's, whichever cut was taken."""
    model = Model.load(folder, SessionConfig(threads=1))
    for cut in plan.cuts:
        agree = []
        for picture in coloured_pictures(8):
            image = picture.image()
            reply = stub.Infer(_request(cut, _features_of(folder, cut, image)), timeout=CALL_S)
            agree.append(reply.classification.class_id[0] == model.predict(image)[0].class_id[0])
            assert (reply.frame_id, reply.model.name, reply.model.version) == ("f1", "residual", "1")
        assert np.mean(agree) >= 0.75, cut.name


def test_features_of_another_head_are_refused_by_a_status_of_their_own(folder, plan, stub):
    """Head of one version, tail of another: FAILED_PRECONDITION, which no other fault gives."""
    cut = plan.cuts[0]
    request = _request(cut, _features_of(folder, cut, coloured_pictures(1)[0].image()))
    request.features.head_sha256 = bytes(32)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Infer(request, timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "send the picture" in caught.value.details()


def test_features_of_another_cut_are_refused(plan, stub):
    """Well-formed features whose shapes are not the tail's never reach the network."""
    cut = plan.cuts[0]
    data = encode_features([np.zeros((2, 3), np.float32)], [plan.cuts[0].seams[0].quantizer])
    with pytest.raises(grpc.RpcError) as caught:
        stub.Infer(_request(cut, data), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_damaged_features_are_the_senders_fault(plan, stub):
    """Garbage is INVALID_ARGUMENT and leaves the server serving."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.Infer(_request(plan.cuts[0], b"SF garbage"), timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_frames_of_one_cut_are_answered_together_and_not_mixed_up(folder, plan, stub, monkeypatch):
    """Many devices at one cut: one run of the tail for all of them, and each gets its own answer."""
    cut = plan.cuts[-1]
    images = [picture.image() for picture in coloured_pictures(24, seed=5)]
    requests = [_request(cut, _features_of(folder, cut, image)) for image in images]
    alone = [stub.Infer(request, timeout=CALL_S).classification.class_id[0] for request in requests]
    rows = []
    monkeypatch.setattr(LocalExecutor, "run", _noting_rows(LocalExecutor.run, rows))
    batching = {"max_batch_size": len(requests), "max_queue_delay_s": 5.0}
    config = cloud_config(folder.parent.parent, batching=batching)
    with serving(config) as server, stub_of(server) as together:
        rows.clear()
        calls = [together.Infer.future(request, timeout=CALL_S) for request in requests]
        assert [call.result().classification.class_id[0] for call in calls] == alone
    assert sum(rows) == len(requests)
    assert max(rows) > 1


def _noting_rows(run, rows):
    def noted(self, tensors):
        rows.append(len(tensors[0]))
        return run(self, tensors)

    return noted
