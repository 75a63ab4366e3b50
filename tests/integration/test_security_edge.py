"""The edge's secure channel against a real server: identities, and files that change under way."""

import time
from datetime import timedelta

import grpc
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from spillover.cloud.security import builders
from spillover.cloud.security.authority import key_pem
from spillover.common.errors import ConfigError
from spillover.common.net.tls import utc_now
from spillover.common.security.files import write_private, write_public
from spillover.common.security.tokens import add_token, revoke_tokens
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb.spillover_pb2_grpc import SpilloverStub
from spillover.edge.config import UplinkConfig
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.channel import Connections
from spillover.edge.uplink.outcome import CloudAnswer
from tests.support.edge_values import frame
from tests.support.models import colour_classifier
from tests.support.pki import HeldInfer, Pki
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving
from tests.support.uplinks import build_uplink, send

RED = (0, 0, 255)
DAY_S = 86_400
UNAUTHENTICATED, UNAVAILABLE = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A CA, a server, a device."""
    pki = Pki(tmp_path_factory.mktemp("pki") / "ca")
    pki.issue("camera-1")
    return pki


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """One model."""
    folder = tmp_path_factory.mktemp("repository")
    colour_classifier(folder)
    return folder


@pytest.fixture(scope="module")
def server(repository, pki):
    """A server that asks for client certificates."""
    with serving(cloud_config(repository, security={"tls": pki.server_tls(mutual=True)})) as running:
        yield running


def connections(server, pki, name="camera-1", **changes):
    """The edge's side, with the certificate of `name`."""
    own = {"certificate": str(pki.certificate(name)), "key": str(pki.key(name))} if name else {}
    raw = {"address": server.address, "tls": {"ca": str(pki.ca), **own}} | changes
    return Connections(msgspec.convert(raw, UplinkConfig), lambda channel: SpilloverStub(channel).Infer)


def call(link, request=None):
    """One Infer as the uplink makes it: its reply, or its error."""
    connection = link.current()
    request = request or request_for(jpeg_of(RED), device_id="camera-1")
    future = connection.method.future(request, timeout=CALL_S, metadata=link.credentials.metadata())
    connection.track(future)
    return future.exception(CALL_S) or future.result()


def test_a_device_with_its_certificate_is_answered(server, pki):
    """The edge proves who it is and is answered; when its certificate ends is known."""
    link = connections(server, pki)
    assert call(link).classification.class_id[0] == 0
    assert 89 * DAY_S < link.credentials.expires_unix_s() - time.time() <= 90 * DAY_S
    link.close()


def test_a_renewed_certificate_is_used_by_the_next_call(server, pki):
    """New files make a new connection, without a restart: the old certificate is revoked meanwhile."""
    pki.issue("camera-2")
    link = connections(server, pki, "camera-2")
    hello = request_for(jpeg_of(RED), device_id="camera-2")
    assert call(link, hello).frame_id == "f1"
    pki.authority.revoke("camera-2")
    refused = call(link, hello)
    assert refused.code() is UNAUTHENTICATED
    pki.issue("camera-2")
    assert call(link, hello).frame_id == "f1"
    link.close()


def test_a_call_in_flight_survives_the_change(server, pki):
    """The connection that is replaced is closed after its last call, not under it."""
    link = connections(server, pki)
    old = link.current()
    SpilloverStub(old._channel).ListModels(pb.ListModelsRequest(), timeout=CALL_S)
    held = HeldInfer(old._channel)
    old.track(held.call)
    pki.issue("camera-1")
    assert link.current() is not old
    assert call(link).frame_id == "f1"
    assert held.finish(request_for(jpeg_of(RED))).frame_id == "f1"
    link.close()


def test_a_changed_token_is_used_by_the_next_call(repository, pki, tmp_path):
    """The token is read again when its file changes; a revoked one is refused, and the log says why."""
    tokens, token_file = tmp_path / "tokens.yaml", tmp_path / "token"
    token_file.write_text(add_token(tokens, "camera-1", "device", None) + "\n")
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens)}
    with serving(cloud_config(repository, security=security)) as server:
        link = connections(server, pki, None, token_file=str(token_file))
        assert call(link).frame_id == "f1"
        revoke_tokens(tokens, "camera-1")
        refused = call(link)
        assert refused.code() is UNAUTHENTICATED
        with capture_logs() as log:
            link.credentials.note_failure(refused.code(), refused.details())
            link.credentials.note_failure(refused.code(), refused.details())
        assert [event["log_level"] for event in log] == ["error"]
        token_file.write_text(add_token(tokens, "camera-1", "device", None))
        assert call(link).frame_id == "f1"
        link.close()


def test_a_certificate_from_the_future_blames_the_clock(server, pki):
    """A device whose clock is behind its certificate says so at the start, and names the time."""
    write_certificate(pki, "early", (utc_now() + timedelta(days=3), utc_now() + timedelta(days=9)))
    with capture_logs() as log:
        link = connections(server, pki, "early")
    assert call(link).code() is UNAVAILABLE
    link.close()
    (event,) = log
    assert event["log_level"] == "error"
    assert "clock says" in event["because"]


def test_a_certificate_about_to_end_is_announced(server, pki):
    """Thirty days before its end the log asks for a renewal."""
    pki.issue("camera-3", days=12)
    with capture_logs() as log:
        connections(server, pki, "camera-3").close()
    assert [(event["log_level"], event["days_left"]) for event in log] == [("warning", 12.0)]


def test_a_server_from_another_ca_gets_no_frame(server, pki, tmp_path):
    """The edge hangs up on a server that its CA has not vouched for; the advice names the key to look at."""
    other = Pki(tmp_path / "other")
    link = connections(server, pki, tls={"ca": str(other.ca)}, name=None)
    refused = call(link)
    with capture_logs() as log:
        link.credentials.note_failure(refused.code(), refused.details())
    link.close()
    assert refused.code() is UNAVAILABLE
    assert "uplink.tls.ca" in log[0]["because"]


def test_wrong_files_are_refused_by_name(server, pki, tmp_path):
    """A key of another certificate, a file that is missing or no PEM: ConfigError with the key's path."""
    certificate, key = str(pki.certificate("camera-1")), str(pki.key("cloud"))
    empty = tmp_path / "empty"
    empty.touch()
    for changes, says in (
        ({"tls": {"ca": str(pki.ca), "certificate": certificate, "key": key}}, "uplink.tls.key"),
        ({"tls": {"ca": str(tmp_path / "none")}}, "uplink.tls.ca"),
        ({"tls": {"ca": str(empty)}}, "uplink.tls.ca"),
        ({"tls": {"ca": str(pki.ca), "certificate": str(empty), "key": key}}, "uplink.tls.certificate"),
        ({"token_file": str(tmp_path / "none")}, "uplink.token_file"),
    ):
        with pytest.raises(ConfigError, match=says):
            connections(server, pki, None, **changes)


def test_secrets_that_others_can_read_are_warned_of(server, pki, tmp_path):
    """The device's key and its token, each by its key in the configuration."""
    pki.issue("camera-5")
    pki.key("camera-5").chmod(0o604)
    token = tmp_path / "token"
    token.write_text("camera-5~secret")
    token.chmod(0o644)
    with capture_logs() as log:
        connections(server, pki, "camera-5", token_file=str(token)).close()
    assert {line["key"]: line["because"] for line in log if line["event"] == "secret is not kept"} == {
        "uplink.tls.key": "can be read by all users (mode 0604): chmod o-r",
        "uplink.token_file": "can be read by all users (mode 0644): chmod o-r",
    }


def write_certificate(pki, name, validity):
    """A device certificate with dates that the command would not give it."""
    key = ec.generate_private_key(ec.SECP256R1())
    ca_key = builders.load_ec_key((pki.folder / "ca.key").read_bytes(), pki.folder)
    ca = x509.load_pem_x509_certificate(pki.ca.read_bytes())
    subject = builders.Subject(name, "device")
    certificate = builders.leaf_certificate(subject, key.public_key(), ca, ca_key, validity)
    write_private(pki.key(name), key_pem(key))
    write_public(pki.certificate(name), certificate.public_bytes(Encoding.PEM))


def test_the_uplink_sends_frames_over_mutual_tls(server, pki):
    """The whole uplink: a frame goes out under the device's certificate, and its answer comes back."""
    pki.issue("camera-4")
    tls = {
        "ca": str(pki.ca),
        "certificate": str(pki.certificate("camera-4")),
        "key": str(pki.key("camera-4")),
    }
    config = msgspec.convert({"address": server.address, "tls": tls}, UplinkConfig)
    uplink = build_uplink(config, device_id="camera-4")
    try:
        assert uplink.certificate_expires_unix_s() > time.time() + 89 * DAY_S
        assert isinstance(send(uplink, frame(0), CALL_S).outcome(), CloudAnswer)
        pki.authority.revoke("camera-4")
        refused = send(uplink, frame(1), CALL_S).failure()
        assert refused.status is CallStatus.UNAUTHENTICATED
        assert refused.unsent is not None  # it can be spooled until the identity is renewed
    finally:
        uplink.stop(time.monotonic() + CALL_S)


def test_a_device_whose_name_is_not_its_certificates_is_told_so(server, pki):
    """A device_id in edge.yaml that is not the certificate's name is PERMISSION_DENIED, not silence."""
    link = connections(server, pki)
    refused = call(link, request_for(jpeg_of(RED), device_id="edge"))
    with capture_logs() as log:
        link.credentials.note_failure(refused.code(), refused.details())
    link.close()
    assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "camera-1" in log[0]["because"]
