"""Connections: too many, idle, never finished; descriptors; and the HTTP page beside them."""

import socket
import time
from contextlib import ExitStack, suppress

from tests.attack.attempts.bodies import HELD
from tests.attack.messages import INFER
from tests.attack.suite import ATTACKER, CUT_OFF, STILL_OPEN, Scene, attempt
from tests.attack.world import STRANGER, Kind, Mode
from tests.support.h2 import HEADERS, frame, literal

KEPT = (STILL_OPEN, "GOAWAY_SETTINGS_TIMEOUT", *CUT_OFF)
_PAGE_S = 10.0


@attempt(Kind(), *KEPT)
def idle_connections(scene: Scene) -> None:
    """1100 finished HTTP/2 handshakes that then do nothing; pings are answered."""
    _idle(scene, scene.of(1100, 1040), acks=True)


@attempt(Kind(), *KEPT, short=False)
def idle_connections_from_many_addresses(scene: Scene) -> None:
    """The same from 250 source addresses."""
    made = []
    for number in range(1100):
        made += scene.connect_many(1, STRANGER, source=f"127.0.2.{number % 250 + 1}")
    scene.hold(20)
    for connection in made:
        scene.saw(connection.ending or STILL_OPEN)


@attempt(Kind(Mode.TOKEN), *KEPT, short=False)
def idle_tls_connections(scene: Scene) -> None:
    """1100 finished TLS handshakes without a token; pings are not answered."""
    _idle(scene, scene.of(1100, 1040), acks=False)


@attempt(Kind(), *KEPT, short=False)
def silent_connections(scene: Scene) -> None:
    """1500 TCP connections that never say anything."""
    made = scene.connect_many(scene.of(1500, 1100), STRANGER, greets=False)
    scene.hold(scene.of(15, 1))
    for connection in made:
        scene.saw(connection.ending or STILL_OPEN)


@attempt(Kind(Mode.TOKEN), *KEPT)
def silent_tls_connections(scene: Scene) -> None:
    """1100 TCP connections to the TLS port that never begin the handshake."""
    made = scene.connect_many(scene.of(1100, 1040), STRANGER, greets=False, tls=None)
    scene.hold(scene.of(15, 1))
    for connection in made:
        scene.saw(connection.ending or STILL_OPEN)


@attempt(Kind(), *KEPT)
def headers_never_finished(scene: Scene) -> None:
    """500 connections that begin a call and never end its headers."""
    made = scene.connect_many(500, STRANGER)
    for connection in made:
        block = literal(":method", "POST")
        connection.send(frame(HEADERS, block, 0, connection.number()))
    scene.hold(scene.of(20, 2))
    for connection in made:
        scene.saw(connection.ending or STILL_OPEN)


@attempt(Kind(Mode.TOKEN), *HELD)
def half_open_streams(scene: Scene) -> None:
    """Calls with headers and nothing else, 120 on each of 100 connections."""
    streams = []
    for connection in scene.connect_many(scene.of(100, 30)):
        streams += [connection.open(INFER) for _ in range(120)]
        scene.pump(limit_s=0.01)
    scene.hold(scene.of(15, 2))
    scene.saw_all(streams)


@attempt(Kind(descriptors=512, few_models=True), *KEPT, direct_only=True, short=False)
def descriptors_used_up(scene: Scene) -> None:
    """600 connections to a process that may open 512 files: the page still answers."""
    made = scene.connect_many(600, STRANGER)
    scene.hold(scene.of(8, 1))
    _page_answers(scene, "/livez")
    for connection in made:
        scene.saw(connection.ending or STILL_OPEN)


@attempt(Kind(), "closed", direct_only=True, short=False)
def slow_clients_of_the_page(scene: Scene) -> None:
    """50 clients of the HTTP page that send a byte now and then: probes and metrics still answer."""
    with ExitStack() as stack:
        slow = []
        for _ in range(50):
            with suppress(OSError):
                slow.append(stack.enter_context(_to_page(scene)))
        for byte in b"GET /metrics"[: scene.of(12, 4)]:
            for client in slow:
                with suppress(OSError):
                    client.send(bytes([byte]))
            scene.hold(0.5)
        for path in ("/livez", "/readyz", "/metrics"):
            _page_answers(scene, path)


@attempt(Kind(), "HTTP 200", "HTTP 404", direct_only=True)
def pages_that_do_not_exist(scene: Scene) -> None:
    """Other paths than those of the page, and methods and lines that HTTP does not have."""
    for path in ("/", "/foo", "/metrics/..%2f", "/healthz"):
        scene.saw(_page(scene, path), {"HTTP 404"}, path)
    scene.saw(_page(scene, "/metrics"), {"HTTP 200"}, "/metrics")
    for line in (
        b"\xff\xff\xff\r\n\r\n",
        b"GET " + b"a" * 100_000,
        b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 50_000,
    ):
        with _to_page(scene) as client, suppress(OSError):
            client.sendall(line)
            client.recv(1)
    scene.saw(_page(scene, "/metrics"), {"HTTP 200"}, "/metrics")


def _idle(scene: Scene, count: int, *, acks: bool) -> None:
    made = scene.connect_many(count, STRANGER, acks=acks)
    scene.hold(scene.of(20, 2))
    for connection in made:
        scene.saw(connection.ending or STILL_OPEN)


def _page_answers(scene: Scene, path: str) -> None:
    """The page must answer, at the latest when slow clients are cut off."""
    answer = _page(scene, path)
    scene.require(answer == "HTTP 200", f"{path}: {answer} instead of HTTP 200")


def _page(scene: Scene, path: str) -> str:
    """How the page answers a good client, which tries again while it is refused, as a probe does."""
    end_s = time.monotonic() + 2 * _PAGE_S
    while time.monotonic() < end_s:
        with suppress(OSError), _to_page(scene, "127.0.0.1") as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            if line := client.recv(65_536).partition(b"\r\n")[0].decode():
                return "HTTP " + line.split()[1]
        scene.hold(0.5)
    return "closed"


def _to_page(scene: Scene, source: str = ATTACKER) -> socket.socket:
    return socket.create_connection(scene.server.metrics, timeout=_PAGE_S, source_address=(source, 0))
