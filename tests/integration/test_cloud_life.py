"""Models come, change and go while requests keep arriving, and none of them notices."""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spillover.common.model.manifest import MODEL_FILE
from spillover.common.wire.oip import request_to_pb
from spillover.common.wire.pb import open_inference_pb2 as oip
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from spillover.common.wire.tensors import TensorRequest
from tests.support.models import colour_classifier, identity
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of

RED = jpeg_of((0, 0, 255))
ONE_ROW = request_to_pb(TensorRequest("identity", {"INPUT0": np.ones((1, 4), np.float32)}))


@pytest.fixture
def server(tmp_path):
    """A server with version 1 of the classifier."""
    colour_classifier(tmp_path)
    models = {"repository": str(tmp_path), "load": ["colour"]}
    with serving(cloud_config(tmp_path, models=models, batching={"max_pending": 256})) as running:
        yield running


@pytest.fixture
def operator(server):
    """A client of the repository methods."""
    with grpc.insecure_channel(server.address) as channel:
        yield oip_grpc.GRPCInferenceServiceStub(channel)


def _load(operator, name: str) -> None:
    operator.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name=name), timeout=CALL_S)


def test_a_new_version_takes_over_without_one_failed_request(server, operator, tmp_path):
    """Four clients never stop asking while ten versions replace each other: every request is answered.

    Each client sees ever newer versions, and at the end the last one.
    """
    stop = threading.Event()

    def ask_until_stopped() -> list[int]:
        versions = []
        with stub_of(server) as stub:
            while not stop.is_set():
                reply = stub.Infer(request_for(RED), timeout=CALL_S)  # an error fails the test
                assert reply.classification.class_id[0] == 0
                versions.append(int(reply.model.version))
        return versions

    with ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(ask_until_stopped) for _ in range(4)]
        try:
            for version in range(2, 12):
                colour_classifier(tmp_path, version=str(version))
                _load(operator, "colour")
        finally:
            stop.set()
        seen = [one.result() for one in asking]
    assert all(versions == sorted(versions) for versions in seen)
    assert len({version for versions in seen for version in versions}) > 2
    with stub_of(server) as stub:
        assert stub.Infer(request_for(RED), timeout=CALL_S).model.version == "11"
    assert [str(one.model_id) for one in server.registry.models()] == ["colour@11"]


def test_a_broken_version_is_refused_and_the_old_one_stays(server, operator, tmp_path):
    """A version that cannot be loaded is an error to whoever asked, and is listed with its reason.

    For everybody else nothing changes.
    """
    broken = colour_classifier(tmp_path, version="2")
    (broken / MODEL_FILE).write_bytes(b"half a network")
    with pytest.raises(grpc.RpcError) as refused:
        _load(operator, "colour")
    assert "sha256" in refused.value.details()
    with stub_of(server) as stub:
        assert stub.Infer(request_for(RED), timeout=CALL_S).model.version == "1"
    index = operator.RepositoryIndex(oip.RepositoryIndexRequest(), timeout=CALL_S).models
    assert [(one.version, one.state) for one in index] == [("1", "READY"), ("2", "UNAVAILABLE")]
    assert "sha256" in index[1].reason


def test_a_network_that_cannot_run_is_refused_before_it_answers(server, operator, tmp_path):
    """Warm-up comes before readiness: a file that is no network is never in the table."""
    (tmp_path / "bad" / "1").mkdir(parents=True)
    (tmp_path / "bad" / "1" / MODEL_FILE).write_bytes(b"\x08\x07nonsense")
    with pytest.raises(grpc.RpcError):
        _load(operator, "bad")
    ready = operator.ModelReady(oip.ModelReadyRequest(name="bad"), timeout=CALL_S)
    assert not ready.ready


def test_other_models_come_and_go_meanwhile(server, operator, tmp_path):
    """Loading and unloading one model touches no request for another."""
    identity(tmp_path, "other")
    with stub_of(server) as stub:
        for _ in range(3):
            asking = [stub.Infer.future(request_for(RED), timeout=CALL_S) for _ in range(20)]
            _load(operator, "other")
            operator.RepositoryModelUnload(
                oip.RepositoryModelUnloadRequest(model_name="other"), timeout=CALL_S
            )
            assert all(one.result().classification.class_id[0] == 0 for one in asking)
    with pytest.raises(grpc.RpcError) as refused:
        operator.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name="other"), timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_clients_that_hang_up_leave_a_healthy_server(server):
    """Of 600 calls half are cancelled at random moments; the others are answered.

    Nothing stays in flight, and the next request is served.
    """
    rng = random.Random(3)

    async def one(stub: pb_grpc.SpilloverStub) -> int:
        call = stub.Infer(request_for(RED), timeout=CALL_S)
        if rng.random() < 0.5:
            for _ in range(rng.randrange(40)):
                await asyncio.sleep(0)
            call.cancel()
        try:
            reply = await call
        except asyncio.CancelledError:
            return 0
        assert reply.classification.class_id[0] == 0
        return 1

    async def scenario() -> int:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = pb_grpc.SpilloverStub(channel)
            return sum([sum(await asyncio.gather(*(one(stub) for _ in range(60)))) for _ in range(10)])

    assert asyncio.run(scenario()) >= 250
    with stub_of(server) as stub:
        assert stub.Infer(request_for(RED), timeout=CALL_S).model.name == "colour"
        assert [model.model.name for model in stub.ListModels(pb.ListModelsRequest()).models] == ["colour"]
        for _ in range(1000):  # the last of the cancelled may still be on their way out
            if server.metrics.registry.get_sample_value("spillover_in_flight") == 0:
                break
            stub.ListModels(pb.ListModelsRequest())
    assert server.metrics.registry.get_sample_value("spillover_in_flight") == 0
    (model,) = server.registry.models()
    assert model.admission.load == 0
    assert model.users == 0


def test_a_crowd_of_calls_is_answered(tmp_path):
    """Calls that come while the event loop is busy wait for it: none is cancelled, however many there are."""
    identity(tmp_path)
    config = cloud_config(tmp_path, limits={"max_streams": 5000}, batching={"max_pending": 5000})
    with serving(config) as server, grpc.insecure_channel(server.address) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(ONE_ROW, timeout=CALL_S) for _ in range(3000)]
        assert {call.code() for call in calls} == {grpc.StatusCode.OK}


def test_those_who_watch_the_health_are_told_and_do_not_hold_up_the_end(tmp_path):
    """A watcher sees SERVING, then NOT_SERVING, then the end of its call."""
    identity(tmp_path)
    with ExitStack() as stack:
        with serving(cloud_config(tmp_path, stop_timeout_s=600)) as server:
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=CALL_S)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as ended:
            next(watch)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "stopping" in ended.value.details()


def test_an_open_stream_does_not_hold_up_the_end(tmp_path):
    """A server that stops answers what it has read of a stream, then ends the stream with UNAVAILABLE."""
    identity(tmp_path)
    left_open = threading.Event()

    def requests():
        yield ONE_ROW
        left_open.wait(CALL_S)

    with ExitStack() as stack:
        with serving(cloud_config(tmp_path, stop_timeout_s=600)) as server:
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            answers = oip_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(requests(), timeout=CALL_S)
            assert not next(answers).error_message
        with pytest.raises(grpc.RpcError) as ended:
            next(answers)
        left_open.set()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "stopping" in ended.value.details()


def test_a_client_that_uses_all_its_streams_is_never_refused(tmp_path):
    """With three times as many calls as a connection may have, the others wait for their turn."""
    identity(tmp_path)
    config = cloud_config(tmp_path, limits={"max_streams": 32}, batching={"max_pending": 5000})
    with serving(config) as server, grpc.insecure_channel(server.address) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(10):
            calls = [stub.ModelInfer.future(ONE_ROW, timeout=CALL_S) for _ in range(96)]
            assert {call.code() for call in calls} == {grpc.StatusCode.OK}
