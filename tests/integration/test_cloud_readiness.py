"""Readiness tells the truth: by gRPC health, to watchers, and by ServerReady, whatever happens to models."""

import asyncio

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from spillover.cloud.rpc.standard_services import HEALTH, described
from spillover.cloud.server import SERVICES
from spillover.common.errors import ConfigError
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import open_inference_pb2_grpc as pb_grpc
from tests.support.models import colour_classifier, identity
from tests.support.serving import CALL_S, cloud_config, serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def server(tmp_path):
    """A server that is asked for one model of the two on disk."""
    colour_classifier(tmp_path)
    identity(tmp_path)
    models = {"repository": str(tmp_path), "load": ["colour"]}
    with serving(cloud_config(tmp_path, models=models)) as running:
        yield running


@pytest.fixture
def channel(server):
    """A connection."""
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def operator(channel):
    """Who loads and unloads."""
    return pb_grpc.GRPCInferenceServiceStub(channel)


def _load(operator, name):
    operator.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name), timeout=CALL_S)


def _unload(operator, name):
    operator.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name), timeout=CALL_S)


def _answers(channel) -> set[object]:
    """What everybody hears who asks whether the server is ready: one answer, if all agree."""
    health = health_pb2_grpc.HealthStub(channel)
    checks = {
        health.Check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_S).status == SERVING
        for name in ("", *SERVICES)
    }
    oip = pb_grpc.GRPCInferenceServiceStub(channel)
    return checks | {oip.ServerReady(pb.ServerReadyRequest(), timeout=CALL_S).ready}


def test_without_a_model_that_was_asked_for_the_server_is_not_ready(channel, operator):
    """Health of every service and ServerReady say so; other models make no difference."""
    assert _answers(channel) == {True}
    _load(operator, "identity")
    _unload(operator, "colour")
    assert _answers(channel) == {False}
    _load(operator, "colour")
    assert _answers(channel) == {True}
    _unload(operator, "identity")
    assert _answers(channel) == {True}


def test_a_version_that_an_operator_loads_stands_in_for_the_one_asked_for(tmp_path, server, operator):
    """A swap leaves the server ready at every moment."""
    colour_classifier(tmp_path, version="2")
    change = server.readiness.change
    _load(operator, "colour")
    assert server.readiness.ready
    assert server.readiness.change is change


def _watch(channel, service=""):
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Watch(request, timeout=CALL_S)


def test_watchers_are_told_of_every_change_although_another_watcher_leaves(channel, operator):
    """Those who stay hear of it: of the whole server, and of one service."""
    watches = [_watch(channel), _watch(channel), _watch(channel, SERVICES[0])]
    assert [next(watch).status for watch in watches] == [SERVING] * 3
    watches.pop(0).cancel()
    _answers(channel)  # the server has taken up calls that came after it
    _unload(operator, "colour")
    assert [next(watch).status for watch in watches] == [NOT_SERVING] * 2
    _load(operator, "colour")
    assert [next(watch).status for watch in watches] == [SERVING] * 2


def test_a_service_that_is_not_here_is_unknown(channel):
    """As the contract of the health service says: NOT_FOUND to Check, SERVICE_UNKNOWN to Watch."""
    with pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="x"), timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert next(_watch(channel, "x")).status == UNKNOWN


def test_health_lists_every_service(channel, operator):
    """`List`, which the installed stubs do not know."""
    method = described(()).FindServiceByName(HEALTH).methods_by_name["List"]
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    ask = channel.unary_unary(
        f"/{HEALTH}/List",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    answer = ask(request(), timeout=CALL_S)
    assert {name: one.status for name, one in answer.statuses.items()} == dict.fromkeys(
        ("", *SERVICES), SERVING
    )
    _unload(operator, "colour")
    assert {one.status for one in ask(request(), timeout=CALL_S).statuses.values()} == {NOT_SERVING}


def _reflected(channel, version, request):
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return next(ask(iter([request]), timeout=CALL_S))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_answers_under_both_names_and_describes_every_service_that_it_lists(channel, version):
    """Clients of today ask for v1, older ones for v1alpha."""
    listed = _reflected(channel, version, reflection_pb2.ServerReflectionRequest(list_services="*"))
    names = {one.name for one in listed.list_services_response.service}
    assert {*SERVICES, HEALTH, f"grpc.reflection.{version}.ServerReflection"} <= names
    for name in names:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        answer = _reflected(channel, version, request)
        files = map(
            descriptor_pb2.FileDescriptorProto.FromString,
            answer.file_descriptor_response.file_descriptor_proto,
        )
        methods = {f"{file.package}.{one.name}": one.method for file in files for one in file.service}
        assert methods[name]
    assert {method.name for method in methods.get(HEALTH, ())} <= {"Check", "Watch", "List"}


@pytest.mark.parametrize("gone", ["the folder", "every model", "the one asked for"])
def test_a_reload_without_any_model_that_is_asked_for_is_refused_and_changes_nothing(
    tmp_path, server, channel, gone
):
    """The error names the folder; what was loaded goes on, and the server is ready."""
    if gone == "the folder":
        tmp_path.rename(tmp_path.parent / f"{tmp_path.name}.away")
    else:
        for name in ("colour", "identity") if gone == "every model" else ("colour",):
            (tmp_path / name).rename(tmp_path.parent / f"{tmp_path.name}.{name}")
    with pytest.raises(ConfigError, match=f"models[.](repository|load): .*{tmp_path}"):
        _on_loop(server, server.reload(server.config))
    assert _answers(channel) == {True}
    assert [str(one.model_id) for one in server.registry.models()] == ["colour@1"]


def test_a_reload_that_misses_one_of_several_models_is_followed_and_makes_the_server_not_ready(
    tmp_path, server, channel
):
    """What is there is loaded; what is not is the reason."""
    models = {"repository": str(tmp_path), "load": ["colour", "nobody"]}
    _on_loop(server, server.reload(cloud_config(tmp_path, models=models)))
    assert server.readiness.reasons == ("model nobody is not loaded",)
    assert _answers(channel) == {False}
    _on_loop(server, server.reload(server.config))
    assert _answers(channel) == {True}


def test_a_default_model_that_is_not_loaded_is_a_reason(tmp_path, server, channel, operator):
    """A configuration whose default is not among its models is followed otherwise, and said."""
    models = {"repository": str(tmp_path), "load": ["colour"], "default": "identity"}
    _on_loop(server, server.reload(cloud_config(tmp_path, models=models)))
    assert server.readiness.reasons == ("model identity is not loaded, the default",)
    _load(operator, "identity")
    assert _answers(channel) == {True}
    assert server.registry.default == "identity"


def test_a_reload_is_never_a_moment_without_readiness(tmp_path, server):
    """One model is replaced by another: nobody hears of a change, because one of them always answers."""
    change = server.readiness.change
    models = {"repository": str(tmp_path), "load": ["identity"]}
    _on_loop(server, server.reload(cloud_config(tmp_path, models=models)))
    assert [str(one.model_id) for one in server.registry.models()] == ["identity@1"]
    assert server.readiness.ready
    assert server.readiness.change is change


def _on_loop(server, work):
    return asyncio.run_coroutine_threadsafe(work, server.loop).result(CALL_S)
