"""Our own service on real gRPC over loopback, with real (tiny) networks."""

import grpc
import msgspec
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from spillover.common.model.manifest import open_model_folder, write_manifest
from spillover.common.wire.pb import spillover_pb2 as pb
from tests.support.models import SIDE, centre_detector, colour_classifier
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of

RED, GREEN, BLUE, WHITE = (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255)
LIMIT = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with both tiny models."""
    repository = tmp_path_factory.mktemp("repository")
    colour_classifier(repository)
    centre_detector(repository)
    strict = centre_detector(repository, "strict")
    described = open_model_folder(strict).manifest
    output = msgspec.structs.replace(described.output, report_threshold=0.8)
    write_manifest(strict, msgspec.structs.replace(described, name="strict", output=output))
    config = cloud_config(
        repository,
        models={"repository": str(repository), "default": "colour"},
        limits={"max_message_bytes": LIMIT},
    )
    with serving(config) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server):
    """A client of it."""
    with stub_of(server) as stub:
        yield stub


@pytest.mark.parametrize(("bgr", "expected"), [(RED, 0), (GREEN, 1), (BLUE, 2)])
def test_a_picture_gets_its_class(stub, bgr, expected):
    """The default model answers with the class of the picture's colour, and says who it is."""
    reply = stub.Infer(request_for(jpeg_of(bgr)), timeout=CALL_S)
    assert reply.classification.class_id[0] == expected
    assert sum(reply.classification.probability) == pytest.approx(1, abs=1e-3)
    assert (reply.frame_id, reply.model.name, reply.model.version) == ("f1", "colour", "1")


def test_a_detector_answers_in_pixels_of_the_picture(stub):
    """A box in the middle of the network's input is a box in the middle of the picture sent."""
    reply = stub.Infer(request_for(jpeg_of(WHITE, 64, 48), "centre"), timeout=CALL_S)
    assert list(reply.detections.xyxy) == pytest.approx([16, 12, 48, 36], abs=0.01)
    assert reply.detections.confidence[0] == pytest.approx(1, abs=0.01)


def test_a_detector_that_sees_nothing_says_so(stub):
    """No box is an answer: detections of length zero, not a missing prediction."""
    reply = stub.Infer(request_for(jpeg_of((0, 0, 0)), "centre"), timeout=CALL_S)
    assert reply.WhichOneof("prediction") == "detections"
    assert not reply.detections.confidence


def test_boxes_below_the_models_report_threshold_are_not_answered(stub):
    """The doubtful boxes that a policy wants to see on an edge are nothing to report from a server."""
    grey = jpeg_of((160, 160, 160))
    assert stub.Infer(request_for(grey, "centre"), timeout=CALL_S).detections.confidence
    assert not stub.Infer(request_for(grey, "strict"), timeout=CALL_S).detections.confidence
    assert stub.Infer(request_for(jpeg_of(WHITE), "strict"), timeout=CALL_S).detections.confidence


def test_max_classes_cuts_the_list(stub):
    """max_classes keeps the best and leaves the rest at home."""
    reply = stub.Infer(request_for(jpeg_of(GREEN), max_classes=1), timeout=CALL_S)
    assert list(reply.classification.class_id) == [1]


def test_every_answer_carries_the_servers_load(stub):
    """Queue wait and load come back as trailing metadata, with answers and with errors."""
    _, call = stub.Infer.with_call(request_for(jpeg_of(RED)), timeout=CALL_S)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Infer(request_for(b""), timeout=CALL_S)
    for trailing in (call.trailing_metadata(), refused.value.trailing_metadata()):
        hints = dict(trailing)
        assert int(hints["spillover-queue-wait-us"]) >= 0
        assert 0 <= float(hints["spillover-load"]) <= 1


def _huge_jpeg() -> bytes:
    """A small file whose header promises 30000 x 30000 pixels."""
    data = bytearray(jpeg_of(RED))
    frame_header = data.index(b"\xff\xc0")
    data[frame_header + 5 : frame_header + 9] = (30000).to_bytes(2, "big") * 2
    return bytes(data)


BAD = {
    "empty": (request_for(b""), grpc.StatusCode.INVALID_ARGUMENT, "empty"),
    "not a JPEG": (request_for(b"GIF89a" + bytes(90)), grpc.StatusCode.INVALID_ARGUMENT, "not a JPEG"),
    "cut short": (request_for(jpeg_of(RED)[:-200]), grpc.StatusCode.INVALID_ARGUMENT, "cut short"),
    "header alone": (request_for(b"\xff\xd8\xff"), grpc.StatusCode.INVALID_ARGUMENT, "cut short"),
    "too many pixels": (request_for(_huge_jpeg()), grpc.StatusCode.INVALID_ARGUMENT, "30000x30000"),
    "no payload": (pb.InferRequest(), grpc.StatusCode.INVALID_ARGUMENT, "no payload"),
    "unknown format": (
        pb.InferRequest(image=pb.EncodedImage(format=0, data=jpeg_of(RED))),
        grpc.StatusCode.INVALID_ARGUMENT,
        "image.format",
    ),
    "unknown model": (
        request_for(jpeg_of(RED), "nobody"),
        grpc.StatusCode.NOT_FOUND,
        "'nobody' is not loaded",
    ),
    "unknown version": (
        pb.InferRequest(model=pb.ModelRef(name="colour", version="9"), image=request_for(jpeg_of(RED)).image),
        grpc.StatusCode.NOT_FOUND,
        "version '9'",
    ),
    "over-large message": (
        request_for(bytes(LIMIT + 1)),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "larger than max",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_its_status_and_the_server_goes_on(stub, case):
    """Each fault of the sender has its status and a text that names it; the next request is answered."""
    request, status, text = BAD[case]
    with pytest.raises(grpc.RpcError) as refused:
        stub.Infer(request, timeout=CALL_S)
    assert refused.value.code() is status
    assert text in refused.value.details()
    assert stub.Infer(request_for(jpeg_of(RED)), timeout=CALL_S).classification.class_id[0] == 0


def test_an_expired_call_costs_the_server_nothing(stub, server):
    """A call whose time is over ends with DEADLINE_EXCEEDED, and the server answers the next one."""
    with pytest.raises(grpc.RpcError) as refused:
        # Past before it begins: the shortest of times ahead is sometimes long enough on loopback.
        stub.Infer(request_for(jpeg_of(RED)), timeout=-1.0)
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stub.Infer(request_for(jpeg_of(RED)), timeout=CALL_S).frame_id == "f1"


def test_a_late_frame_is_still_answered(stub):
    """A frame whose own time has passed gets its answer as long as the call lives: it becomes a revision."""
    reply = stub.Infer(request_for(jpeg_of(BLUE), time_left_us=1), timeout=CALL_S)
    assert reply.classification.class_id[0] == 2


def test_list_models_says_what_can_be_asked_for(stub):
    """ListModels names each loaded model, its task, and the default."""
    models = stub.ListModels(pb.ListModelsRequest(), timeout=CALL_S).models
    assert {(m.model.name, m.model.version, m.task, m.is_default) for m in models} == {
        ("colour", "1", "classification", True),
        ("centre", "1", "detection", False),
        ("strict", "1", "detection", False),
    }
    assert {(m.input_width, m.input_height) for m in models} == {(SIDE, SIDE)}


@pytest.mark.parametrize("service", ["", "spillover.v1.Spillover"])
def test_health_is_serving(server, service):
    """The standard health check answers SERVING for the server and for the service."""
    with grpc.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        reply = check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_S)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_service(server):
    """A client without our .proto finds the service by reflection."""
    with grpc.insecure_channel(server.address) as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        (reply,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=CALL_S)
    assert "spillover.v1.Spillover" in {one.name for one in reply.list_services_response.service}


def test_boxes_that_are_not_finite_are_counted(tmp_path):
    """A broken network's box has no place in the answer; the others have, and metric and log tell of it."""
    centre_detector(tmp_path, "wild", beside=(np.nan, 0.5, 0.1, 0.1, 0.9))
    with capture_logs() as log, serving(cloud_config(tmp_path)) as server, stub_of(server) as stub:
        for _ in range(2):
            reply = stub.Infer(request_for(jpeg_of(WHITE), "wild"), timeout=CALL_S)
            assert len(reply.detections.confidence) == 1
        labels = {"model": "wild", "reason": "not_finite"}
        counted = server.metrics.registry.get_sample_value("spillover_boxes_dropped_total", labels)
    assert counted == 2
    assert len([entry for entry in log if "not finite" in entry["event"]]) == 1
