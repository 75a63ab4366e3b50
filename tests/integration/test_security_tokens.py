"""Bearer tokens on real gRPC: who has none, a wrong one or a revoked one stays out."""

import subprocess
import sys
from queue import SimpleQueue

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from spillover.common.security.tokens import add_token, revoke_tokens
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.models import colour_classifier, identity
from tests.support.pki import Pki, bearer, secure_channel
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving

RED = (0, 0, 255)
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory):
    """Where the tokens are kept."""
    path = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
    add_token(path, "somebody", "device", None)
    return path


@pytest.fixture(scope="module")
def channel(tmp_path_factory, tokens_file):
    """A TLS connection, without a client certificate, to a server that asks for tokens."""
    pki = Pki(tmp_path_factory.mktemp("pki") / "ca")
    repository = tmp_path_factory.mktemp("repository")
    colour_classifier(repository)
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens_file)}
    config = cloud_config(repository, security=security)
    with serving(config) as running, secure_channel(running, pki.credentials()) as channel:
        yield channel


def infer(channel, metadata=(), **fields):
    """One Infer."""
    stub = pb_grpc.SpilloverStub(channel)
    return stub.Infer(request_for(jpeg_of(RED), **fields), timeout=CALL_S, metadata=metadata)


def status_of(channel, metadata=(), **fields):
    """The status of an Infer that must not be answered."""
    with pytest.raises(grpc.RpcError) as refused:
        infer(channel, metadata, **fields)
    return refused.value.code()


def test_a_token_opens(channel, tokens_file):
    """A device with a token is answered under its own name; a token added while serving is good at once."""
    token = add_token(tokens_file, "camera-1", "device", 1)
    assert infer(channel, bearer(token), device_id="camera-1").classification.class_id[0] == 0


def test_without_a_good_token_nothing_is_answered(channel, tokens_file):
    """None, another scheme, a wrong secret, another's name, an expired one: UNAUTHENTICATED."""
    token = add_token(tokens_file, "camera-2", "device", None)
    secret = token.partition("~")[2]
    expired = add_token(tokens_file, "camera-3", "device", -1)
    for metadata in (
        (),
        bearer(""),
        bearer("~"),
        bearer(secret),
        bearer("camera-2~"),
        bearer(f"camera-2~{secret[:-1]}"),
        bearer(f"somebody~{secret}"),
        bearer(f"nobody~{secret}"),
        bearer(expired),
        (("authorization", f"Basic {token}"),),
        (("authorization", token),),
    ):
        assert status_of(channel, metadata) is UNAUTHENTICATED, metadata


def test_a_revoked_token_is_refused_at_the_next_call(channel, tokens_file):
    """Revocation needs no restart and no new connection."""
    token = add_token(tokens_file, "stolen", "device", None)
    assert infer(channel, bearer(token)).frame_id == "f1"
    revoke_tokens(tokens_file, "stolen")
    assert status_of(channel, bearer(token)) is UNAUTHENTICATED


def test_a_damaged_file_leaves_the_last_good_one(channel, tokens_file):
    """While the file cannot be read, who was let in stays in and who was not stays out."""
    token = add_token(tokens_file, "camera-4", "device", None)
    infer(channel, bearer(token))
    good = tokens_file.read_bytes()
    tokens_file.write_bytes(b"tokens: [")
    try:
        assert infer(channel, bearer(token)).frame_id == "f1"
        assert status_of(channel) is UNAUTHENTICATED
    finally:
        tokens_file.write_bytes(good)


def test_a_device_cannot_speak_for_another(channel, tokens_file):
    """The device_id of a request must be the token's name."""
    token = add_token(tokens_file, "camera-5", "device", None)
    assert status_of(channel, bearer(token), device_id="camera-1") is grpc.StatusCode.PERMISSION_DENIED


def test_roles_hold_for_tokens(channel, tokens_file):
    """A device's token may not unload a model; an operator's may look at the repository."""
    stub = oip_grpc.GRPCInferenceServiceStub(channel)
    device = bearer(add_token(tokens_file, "camera-6", "device", None))
    operator = bearer(add_token(tokens_file, "alice", "operator", None))
    with pytest.raises(grpc.RpcError) as refused:
        stub.RepositoryModelUnload(
            oip_pb.RepositoryModelUnloadRequest(model_name="colour"), timeout=CALL_S, metadata=device
        )
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    index = stub.RepositoryIndex(oip_pb.RepositoryIndexRequest(), timeout=CALL_S, metadata=operator)
    assert [model.name for model in index.models] == ["colour"]


def test_streams_pass_the_same_gate(channel, tokens_file):
    """ModelStreamInfer and reflection are refused to strangers, and open to a token."""
    stream = oip_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer
    reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    for method, request in ((stream, oip_pb.ModelInferRequest()), (reflect, question)):
        with pytest.raises(grpc.RpcError) as refused:
            list(method(iter([request]), timeout=CALL_S))
        assert refused.value.code() is UNAUTHENTICATED
    token = bearer(add_token(tokens_file, "camera-7", "device", None))
    assert list(reflect(iter([question]), timeout=CALL_S, metadata=token))
    assert list(stream(iter([oip_pb.ModelInferRequest()]), timeout=CALL_S, metadata=token))


def test_health_needs_no_token(channel):
    """Probes carry no identity: health, live and ready answer anybody."""
    reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    stub = oip_grpc.GRPCInferenceServiceStub(channel)
    assert stub.ServerLive(oip_pb.ServerLiveRequest(), timeout=CALL_S).live
    assert stub.ServerReady(oip_pb.ServerReadyRequest(), timeout=CALL_S).ready


def test_a_strangers_message_is_not_read(channel):
    """The refusal does not wait for a message: a stranger who never sends one is answered all the same."""
    call = channel.stream_stream("/spillover.v1.Spillover/Infer", pb.InferRequest.SerializeToString)
    messages = SimpleQueue()
    try:
        with pytest.raises(grpc.RpcError) as refused:
            list(call(iter(messages.get, None), timeout=CALL_S))
    finally:
        messages.put(None)
    assert refused.value.code() is UNAUTHENTICATED


def test_a_method_that_is_not_there_is_refused(channel, tokens_file):
    """Strangers learn nothing, not even that there is no such method; the known are told so."""
    call = channel.unary_unary("/spillover.v1.Spillover/Secret")
    for metadata, status in (
        ((), UNAUTHENTICATED),
        (bearer(add_token(tokens_file, "bob", "operator", None)), grpc.StatusCode.UNIMPLEMENTED),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", timeout=CALL_S, metadata=metadata)
        assert refused.value.code() is status


TRITON = """
import sys
from tritonclient.grpc import InferenceServerClient
address, ca, token = sys.argv[1:]
client = InferenceServerClient(address, ssl=True, root_certificates=ca)
assert client.is_server_live()
print(client.get_model_metadata("identity", headers={"authorization": f"Bearer {token}"}).name)
client.close()
"""


def test_tritonclient_brings_its_token_as_a_header(tokens_file, tmp_path):
    """The standard client needs but its own options; a process, as both register the same protobuf."""
    pki = Pki(tmp_path / "ca")
    identity(tmp_path / "models")
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens_file)}
    token = add_token(tokens_file, "triton", "operator", None)
    with serving(cloud_config(tmp_path / "models", security=security)) as server:
        command = [sys.executable, "-c", TRITON, server.address, str(pki.ca), token]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.stdout == "identity\n", done.stderr[-500:]
