"""A server stops within one limit: what hangs is named and left behind, and all else is answered."""

import asyncio
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spillover.cloud.models.loader import OpenedModel, open_entry
from spillover.cloud.server import serve
from spillover.common.wire.oip import request_to_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import open_inference_pb2_grpc as pb_grpc
from spillover.common.wire.pb import spillover_pb2 as own_pb
from spillover.common.wire.tensors import TensorRequest
from tests.support.executors import Serving, ToyExecutor, named_repository
from tests.support.models import colour_classifier
from tests.support.processes import free_port
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of

pytestmark = pytest.mark.slow
LIMIT_S = 2.0


def _infer(channel, model):
    request = request_to_pb(TensorRequest(model, {"INPUT0": np.ones((1, 4), np.float32)}))
    return pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(request, timeout=CALL_S)


def _open_when_draining(channel, gate):
    """Open the gate when the server says that it stops."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=CALL_S)
    next(told for told in watch if told.status == health_pb2.HealthCheckResponse.NOT_SERVING)
    gate.set()


def test_a_run_that_hangs_is_left_behind_and_others_are_answered(tmp_path):
    """The call of the hanging run is cut off; one of another model, in flight too, has its answer."""
    named_repository(tmp_path, "hangs", "slow")
    hangs, slow = ToyExecutor(), ToyExecutor()
    hangs.gate.clear()
    slow.gate.clear()
    config = cloud_config(tmp_path, stop_timeout_s=LIMIT_S)
    with ExitStack() as stack:
        with serving(config, Serving(hangs=hangs, slow=slow), hanging=["a run of hangs@1"]) as server:
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            lost, kept = _infer(channel, "hangs"), _infer(channel, "slow")
            assert hangs.reached.wait(CALL_S)
            assert slow.reached.wait(CALL_S)
            watcher = threading.Thread(target=_open_when_draining, args=(channel, slow.gate))
            watcher.start()
        watcher.join(CALL_S)
        assert kept.result(CALL_S).model_name == "slow"
        assert lost.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
    assert slow.stopped
    assert not hangs.stopped
    hangs.gate.set()


class _HangingVision:
    """The adapter of a real model whose decoding hangs until the gate is open."""

    def __init__(self, vision) -> None:
        self._vision = vision
        self.manifest = vision.manifest
        self.gate, self.reached = threading.Event(), threading.Event()

    def look(self, payload):
        """As it is; hang, then decode."""
        undecoded = self._vision.look(payload)
        return replace(undecoded, prepare=partial(self._prepare, undecoded))

    def _prepare(self, undecoded):
        self.reached.set()
        assert self.gate.wait(CALL_S)
        return undecoded.prepare()

    def decode(self, outputs, geometry):
        """As it is."""
        return self._vision.decode(outputs, geometry)


def test_a_picture_whose_decoding_hangs_is_left_behind(tmp_path):
    """The log, and what `serve` gives back, say which model it was for."""
    colour_classifier(tmp_path)
    made: list[_HangingVision] = []

    def open_model(entry, load_spec):
        opened = open_entry(entry, load_spec)
        made.append(_HangingVision(opened.vision))
        return OpenedModel(opened.executor, made[0])

    config = cloud_config(tmp_path, stop_timeout_s=LIMIT_S)
    with serving(config, open_model, hanging=["decoding for colour@1"]) as server, stub_of(server) as stub:
        lost = stub.Infer.future(request_for(jpeg_of((0, 0, 255))), timeout=CALL_S)
        assert made[0].reached.wait(CALL_S)
    assert lost.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
    made[0].gate.set()


def test_a_load_that_hangs_at_the_start_does_not_keep_the_server(tmp_path):
    """Asked to stop while it loads, a server never says that it is ready, and ends."""
    named_repository(tmp_path, "slow")
    gate, reached = threading.Event(), threading.Event()

    def open_model(entry, load_spec):
        reached.set()
        assert gate.wait(CALL_S)
        return Serving(slow=ToyExecutor())(entry, load_spec)

    async def scenario() -> list[str]:
        stop = asyncio.Event()
        config = cloud_config(tmp_path, stop_timeout_s=0.5)
        serving_ = asyncio.ensure_future(serve(config, stop, pytest.fail, open_model))
        assert await asyncio.to_thread(reached.wait, CALL_S)
        stop.set()
        left_behind = await serving_
        gate.set()
        return left_behind

    assert asyncio.run(scenario()) == ["loading of slow@1"]


def test_while_models_load_the_server_is_alive_and_not_ready(tmp_path):
    """The probes answer before the models are there: `/livez` 200, `/readyz` 503 with the reason."""
    named_repository(tmp_path, "slow")
    gate, reached = threading.Event(), threading.Event()

    def open_model(entry, load_spec):
        reached.set()
        assert gate.wait(CALL_S)
        return Serving(slow=ToyExecutor())(entry, load_spec)

    port = free_port()

    def asked(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=CALL_S) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    async def scenario() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        config = cloud_config(tmp_path, metrics=f"127.0.0.1:{port}")
        serving_ = asyncio.ensure_future(serve(config, stop, lambda _: ready.set(), open_model))
        assert await asyncio.to_thread(reached.wait, CALL_S)
        assert await asyncio.to_thread(asked, "/livez") == (200, "ok\n")
        assert await asyncio.to_thread(asked, "/readyz") == (503, "models are still being loaded\n")
        gate.set()
        await ready.wait()
        assert await asyncio.to_thread(asked, "/readyz") == (200, "ok\n")
        stop.set()
        assert await serving_ == []

    asyncio.run(scenario())


def test_a_load_that_hangs_later_does_not_keep_the_server(tmp_path):
    """An operator's load under way is cut off, and left behind."""
    named_repository(tmp_path, "quick", "slow")
    gate, reached = threading.Event(), threading.Event()
    executors = Serving(quick=ToyExecutor(), slow=ToyExecutor())

    def open_model(entry, load_spec):
        if entry.model_id.name == "slow":
            reached.set()
            assert gate.wait(CALL_S)
        return executors(entry, load_spec)

    models = {"repository": str(tmp_path), "load": ["quick"]}
    config = cloud_config(tmp_path, models=models, stop_timeout_s=LIMIT_S)
    with ExitStack() as stack:
        with serving(config, open_model, hanging=["loading of slow@1"]) as server:
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            operator = pb_grpc.GRPCInferenceServiceStub(channel)
            loading = operator.RepositoryModelLoad.future(
                pb.RepositoryModelLoadRequest(model_name="slow"), timeout=CALL_S
            )
            assert reached.wait(CALL_S)
        assert loading.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
    gate.set()


def test_a_client_that_hangs_does_not_keep_the_server(tmp_path):
    """A call whose message never comes is cut off at the end of the drain; nothing is left behind."""
    colour_classifier(tmp_path)
    with ExitStack() as stack:
        with serving(cloud_config(tmp_path, stop_timeout_s=LIMIT_S)) as server:
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            infer = channel.stream_stream(
                "/spillover.v1.Spillover/Infer", own_pb.InferRequest.SerializeToString
            )
            never = threading.Event()
            stack.callback(never.set)
            call = infer(iter(lambda: never.wait(CALL_S) and None, None), timeout=CALL_S)
            with stub_of(server) as stub:  # the server has taken up calls that came after it
                stub.ListModels(own_pb.ListModelsRequest(), timeout=CALL_S)
        assert call.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


def test_a_model_that_hangs_when_it_is_unloaded_fails_its_calls(tmp_path):
    """The server goes on: the call gets UNAVAILABLE within the limit, and at the end the run is named."""
    named_repository(tmp_path, "hangs", "other")
    hangs = ToyExecutor()
    hangs.gate.clear()
    config = cloud_config(tmp_path, stop_timeout_s=0.5)
    executors = Serving(hangs=hangs, other=ToyExecutor())
    with (
        serving(config, executors, hanging=["a run of hangs@1"]) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        lost = _infer(channel, "hangs")
        assert hangs.reached.wait(CALL_S)
        pb_grpc.GRPCInferenceServiceStub(channel).RepositoryModelUnload(
            pb.RepositoryModelUnloadRequest(model_name="hangs"), timeout=CALL_S
        )
        assert lost.exception(CALL_S).code() is grpc.StatusCode.UNAVAILABLE
        assert "hung" in lost.details()
        assert _infer(channel, "other").result(CALL_S).model_name == "other"
    hangs.gate.set()
