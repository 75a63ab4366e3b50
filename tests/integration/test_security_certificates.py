"""Mutual TLS on real gRPC: every way in that must stay shut, and certificates that change under way."""

import socket
import ssl

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spillover.cloud.security.builders import SERVER
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.models import colour_classifier
from tests.support.pki import HeldInfer, Pki, secure_channel
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving

RED = (0, 0, 255)
PERMISSION_DENIED, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA that has vouched for two devices and an operator."""
    pki = Pki(tmp_path_factory.mktemp("pki") / "ca")
    for name in ("camera-1", "camera-2"):
        pki.issue(name)
    pki.issue("alice", "operator")
    return pki


@pytest.fixture(scope="module")
def server(tmp_path_factory, pki):
    """A server that asks for client certificates, with one model."""
    repository = tmp_path_factory.mktemp("repository")
    colour_classifier(repository)
    with serving(cloud_config(repository, security={"tls": pki.server_tls(mutual=True)})) as running:
        yield running


def infer(server, credentials, **fields):
    """One Infer over a fresh connection."""
    with secure_channel(server, credentials) as channel:
        return pb_grpc.SpilloverStub(channel).Infer(request_for(jpeg_of(RED), **fields), timeout=CALL_S)


def refusal(server, credentials, **fields):
    """The error of an Infer that must not be answered."""
    with pytest.raises(grpc.RpcError) as refused:
        infer(server, credentials, **fields)
    return refused.value


def test_a_device_with_a_certificate_is_answered(server, pki):
    """A device that the CA has vouched for gets its answer, under its own name or none."""
    for fields in ({}, {"device_id": "camera-1"}):
        assert infer(server, pki.credentials("camera-1"), **fields).classification.class_id[0] == 0


def test_plaintext_gets_no_answer(server):
    """A caller without TLS does not even learn that there is a server."""
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as refused:
        pb_grpc.SpilloverStub(channel).ListModels(pb.ListModelsRequest(), timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("case", ["none", "another CA", "same name, another CA", "expired", "a server's"])
def test_no_connection_without_a_good_certificate(server, pki, tmp_path, case):
    """No certificate, one of another CA, one that has expired, one that is for serving: no handshake."""
    if case == "none":
        credentials = pki.credentials()
    elif case == "expired":
        pki.issue("old", days=-1)
        credentials = pki.credentials("old")
    elif case == "a server's":
        credentials = pki.credentials("cloud")
    else:
        other = Pki(tmp_path / "other", "test CA" if case.startswith("same") else "other CA")
        other.issue("camera-1")
        credentials = other.credentials("camera-1", pki.ca)
    assert refusal(server, credentials).code() is grpc.StatusCode.UNAVAILABLE


def test_a_revoked_certificate_is_refused_on_an_open_connection_too(server, pki):
    """Revocation takes effect at the next call, without a restart and without a new connection."""
    pki.issue("stolen")
    with secure_channel(server, pki.credentials("stolen")) as channel:
        call = pb_grpc.SpilloverStub(channel).ListModels
        assert call(pb.ListModelsRequest(), timeout=CALL_S).models
        pki.authority.revoke("stolen")
        with pytest.raises(grpc.RpcError) as refused:
            call(pb.ListModelsRequest(), timeout=CALL_S)
    assert refused.value.code() is UNAUTHENTICATED
    assert "revoked" in refused.value.details()
    assert refusal(server, pki.credentials("stolen")).code() is UNAUTHENTICATED
    assert infer(server, pki.credentials("camera-1")).frame_id == "f1"


def test_a_damaged_revocation_list_leaves_the_last_good_one(server, pki):
    """Half a file, or one that another CA has signed, forgives nobody."""
    pki.issue("lost")
    pki.authority.revoke("lost")
    good = pki.crl.read_bytes()
    assert refusal(server, pki.credentials("lost")).code() is UNAUTHENTICATED
    pki.crl.write_bytes(good[: len(good) // 2])
    try:
        assert refusal(server, pki.credentials("lost")).code() is UNAUTHENTICATED
        pki.crl.unlink()
        assert refusal(server, pki.credentials("lost")).code() is UNAUTHENTICATED
    finally:
        pki.crl.write_bytes(good)


def test_a_device_cannot_speak_for_another(server, pki):
    """The device_id of a request must be the certificate's name."""
    error = refusal(server, pki.credentials("camera-1"), device_id="camera-2")
    assert error.code() is PERMISSION_DENIED
    assert "camera-2" in error.details()


CONTROL = {
    "RepositoryModelLoad": oip_pb.RepositoryModelLoadRequest(model_name="colour"),
    "RepositoryModelUnload": oip_pb.RepositoryModelUnloadRequest(model_name="colour"),
    "RepositoryIndex": oip_pb.RepositoryIndexRequest(),
    "ModelStatistics": oip_pb.ModelStatisticsRequest(),
}


@pytest.mark.parametrize("method", CONTROL)
def test_a_device_may_not_do_an_operators_work(server, pki, method):
    """Loading, unloading, listing the disk and statistics are not for devices; the model stays."""
    with secure_channel(server, pki.credentials("camera-1")) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            getattr(oip_grpc.GRPCInferenceServiceStub(channel), method)(CONTROL[method], timeout=CALL_S)
        assert refused.value.code() is PERMISSION_DENIED
        assert pb_grpc.SpilloverStub(channel).ListModels(pb.ListModelsRequest(), timeout=CALL_S).models


def test_an_operator_may(server, pki):
    """The operator's certificate opens repository and statistics, and answers frames too."""
    with secure_channel(server, pki.credentials("alice")) as channel:
        stub = oip_grpc.GRPCInferenceServiceStub(channel)
        assert stub.RepositoryIndex(oip_pb.RepositoryIndexRequest(), timeout=CALL_S).models
        assert stub.ModelStatistics(oip_pb.ModelStatisticsRequest(), timeout=CALL_S).model_stats
        stub.RepositoryModelLoad(CONTROL["RepositoryModelLoad"], timeout=CALL_S)
    assert infer(server, pki.credentials("alice")).frame_id == "f1"


def test_a_role_that_nobody_defined_may_nothing(server, pki):
    """A certificate whose role is not in the configuration can only ask for health."""
    pki.issue("mallory", "root")
    assert refusal(server, pki.credentials("mallory")).code() is PERMISSION_DENIED
    with secure_channel(server, pki.credentials("mallory")) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        reply = check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_a_client_notices_a_false_server(server, pki, tmp_path):
    """A client that trusts another CA, or wants a name that the server has not, does not send its frame."""
    other = Pki(tmp_path / "other")
    assert refusal(server, pki.credentials("camera-1", other.ca)).code() is grpc.StatusCode.UNAVAILABLE
    credentials, options = pki.credentials("camera-1"), [("grpc.ssl_target_name_override", "elsewhere")]
    with (
        grpc.secure_channel(server.address, credentials, options) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        pb_grpc.SpilloverStub(channel).ListModels(pb.ListModelsRequest(), timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_devices_certificate_cannot_serve(tmp_path_factory, pki):
    """A stolen device key does not make a server: clients refuse a certificate that is not for serving."""
    repository = tmp_path_factory.mktemp("repository")
    colour_classifier(repository)
    tls = {"certificate": str(pki.certificate("camera-2")), "key": str(pki.key("camera-2"))}
    with serving(cloud_config(repository, security={"tls": tls})) as running:
        assert refusal(running, pki.credentials("camera-1")).code() is grpc.StatusCode.UNAVAILABLE


def test_a_new_certificate_serves_new_connections_while_a_call_is_in_flight(tmp_path):
    """Swapped files are used by the next handshake; the call under way on the old one is answered."""
    pki = Pki(tmp_path / "ca")
    pki.issue("camera-1")
    colour_classifier(tmp_path / "models")
    config = cloud_config(tmp_path / "models", security={"tls": pki.server_tls(mutual=True)})
    with serving(config) as server, secure_channel(server, pki.credentials("camera-1")) as channel:
        old = served_serial(server, pki)
        pb_grpc.SpilloverStub(channel).ListModels(pb.ListModelsRequest(), timeout=CALL_S)  # connects
        held = HeldInfer(channel)
        pki.issue("cloud", SERVER, ("localhost", "127.0.0.1"))
        assert served_serial(server, pki) != old
        assert infer(server, pki.credentials("camera-1")).frame_id == "f1"
        assert held.finish(request_for(jpeg_of(RED))).frame_id == "f1"


def test_half_a_swap_leaves_the_old_pair(tmp_path):
    """While certificate and key do not belong together, connections are made with the pair before."""
    pki = Pki(tmp_path / "ca")
    pki.issue("camera-1")
    colour_classifier(tmp_path / "models")
    with serving(cloud_config(tmp_path / "models", security={"tls": pki.server_tls(mutual=True)})) as server:
        old = served_serial(server, pki)
        certificate, key = pki.certificate("cloud").read_bytes(), pki.key("cloud").read_bytes()
        pki.issue("cloud", SERVER, ("localhost", "127.0.0.1"))
        new_key = pki.key("cloud").read_bytes()
        pki.key("cloud").write_bytes(key)
        assert served_serial(server, pki) == old
        pki.certificate("cloud").write_bytes(certificate)
        pki.key("cloud").write_bytes(new_key)
        assert served_serial(server, pki) == old


def served_serial(server, pki) -> str:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=pki.ca)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(pki.certificate("camera-1"), pki.key("camera-1"))
    host, _, port = server.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=CALL_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        return secured.getpeercert()["serialNumber"]
