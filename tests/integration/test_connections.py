"""Strangers who hold connections do not keep a device out, however they hold them."""

import selectors
import socket
import ssl
import threading
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spillover.common.security.tokens import add_token
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.h2 import HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame, literal, request_headers
from tests.support.models import colour_classifier
from tests.support.pki import Pki, bearer, secure_channel
from tests.support.serving import CALL_S, cloud_config, eventually, jpeg_of, request_for, serving

ATTACKER = "127.0.0.2"
ACK = 1
HELLO = PREFACE + frame(SETTINGS) + frame(SETTINGS, flags=ACK)
WITHOUT_END = HELLO + frame(HEADERS, b"\0\x0aabc", 0, 1)
"""Headers whose first name is said to be longer than what has come."""
CALLS = 5
INFER = "/" + pb.DESCRIPTOR.services_by_name["Spillover"].full_name + "/Infer"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """One model."""
    folder = tmp_path_factory.mktemp("repository")
    colour_classifier(folder)
    return folder


class Flood:
    """Connections of one attacker, who opens them, says `hello`, and answers every ping."""

    def __init__(self, server, hello: bytes, tls: ssl.SSLContext | None = None):
        host, _, port = server.address.rpartition(":")
        self._to = host, int(port)
        self._hello = hello
        self._tls = tls
        self._selector = selectors.DefaultSelector()
        self._stopping = threading.Event()
        self.closed = 0

    def open(self, count: int) -> None:
        """Open so many; those that the server refuses at once count as closed."""
        for _ in range(count):
            raw = socket.create_connection(self._to, timeout=CALL_S, source_address=(ATTACKER, 0))
            try:
                connection = self._tls.wrap_socket(raw, server_hostname="localhost") if self._tls else raw
                connection.sendall(self._hello)
                connection.setblocking(False)
            except OSError:
                raw.close()
                self.closed += 1
                continue
            self._selector.register(connection, selectors.EVENT_READ)

    @contextmanager
    def held(self):
        """Answer pings while inside, and close everything at the end."""
        thread = threading.Thread(target=self._answer)
        thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            thread.join(CALL_S)
            for key in list(self._selector.get_map().values()):
                key.fileobj.close()
            self._selector.close()

    def _answer(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.1):
                try:
                    self._reply(key.fileobj)
                except (BlockingIOError, ssl.SSLWantReadError):
                    continue
                except OSError:
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()
                    self.closed += 1

    def _reply(self, connection: socket.socket) -> None:
        received = connection.recv(65536)
        if not received:
            raise ConnectionError
        while len(received) >= 9:
            length, kind, flags = int.from_bytes(received[:3], "big"), received[3], received[4]
            if kind == PING and not flags & ACK:
                connection.sendall(frame(kind, received[9 : 9 + length], ACK))
            received = received[9 + length :]


def answered(channel: grpc.Channel, metadata=()) -> None:
    """A device's call on a connection of its own gets its answer."""
    infer = pb_grpc.SpilloverStub(channel).Infer
    request = request_for(jpeg_of((0, 0, 255)))
    assert infer(request, timeout=CALL_S, metadata=metadata, wait_for_ready=True).frame_id == "f1"


def closed_of(server, cause: str) -> float:
    """How many connections were closed for this."""
    labels = {"cause": cause}
    return server.metrics.registry.get_sample_value("spillover_connections_closed_total", labels) or 0


def new_channel(server):
    """A connection that no other test shares."""
    return grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])


@pytest.mark.parametrize(
    ("hello", "count"),
    [
        pytest.param(HELLO, 1024, id="handshakes"),
        pytest.param(WITHOUT_END, 500, id="headers"),
        pytest.param(b"", 1500, id="silence"),
    ],
)
def test_a_device_is_answered_while_strangers_hold_connections(repository, hello, count):
    """New connections of a device are served as long as the attack lasts; the metrics tell of it."""
    # A busy machine may take longer for the calls than silence is usually put up with.
    limits = {"max_connections": 256, "idle_timeout_s": 600.0, "handshake_timeout_s": 600.0}
    with serving(cloud_config(repository, limits=limits)) as server:
        flood = Flood(server, hello)
        flood.open(count)
        with flood.held():
            for _ in range(CALLS):
                with new_channel(server) as channel:
                    answered(channel)
            # A device's channel may give up one connection, which the server keeps for its handshake's time.
            most = 128 + CALLS
            assert eventually(lambda: 0 < server.connections.by_standing()["stranger"] <= most)
        assert closed_of(server, "address") > 0


def test_a_device_with_a_token_is_answered_while_strangers_hold_connections(repository, tmp_path):
    """The same with TLS: handshakes that are finished, and never a call."""
    pki = Pki(tmp_path / "ca")
    token = add_token(tmp_path / "tokens.yaml", "camera-1", "device", None)
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tmp_path / "tokens.yaml")}
    context = ssl.create_default_context(cafile=pki.ca)
    context.set_alpn_protocols(["h2"])
    with serving(cloud_config(repository, security=security, limits={"max_connections": 128})) as server:
        flood = Flood(server, HELLO, context)
        flood.open(256)
        with flood.held():
            for _ in range(CALLS):
                with secure_channel(server, pki.credentials()) as channel:
                    answered(channel, bearer(token))


def test_who_opens_calls_and_gives_them_up_is_closed(repository):
    """HTTP/2's rapid reset: few of the calls wait for the event loop, and the connection is ended at once."""
    block = b"".join(literal(name, value) for name, value in request_headers(INFER))
    given_up = (8).to_bytes(4, "big")  # CANCEL
    calls = b"".join(
        frame(HEADERS, block, 4, number) + frame(RST_STREAM, given_up, 0, number)
        for number in range(1, 4000, 2)
    )
    with serving(cloud_config(repository)) as server:
        flood = Flood(server, HELLO + calls)
        flood.open(1)
        with flood.held(), new_channel(server) as channel:
            assert eventually(lambda: closed_of(server, "in_vain") == 1)
            answered(channel)


def test_who_watches_the_health_is_not_idle(repository):
    """A watcher has a call open; beside it a stranger without one is closed."""
    with serving(cloud_config(repository, limits={"idle_timeout_s": 0.1})) as server:
        flood = Flood(server, HELLO)
        flood.open(1)
        with flood.held(), new_channel(server) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            assert eventually(lambda: closed_of(server, "idle") == 1)
            assert eventually(lambda: server.connections.by_standing()["stranger"] == 1)
            assert watch.is_active()
            watch.cancel()
