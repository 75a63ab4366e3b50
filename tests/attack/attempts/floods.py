"""Floods of HTTP/2 frames that cost the sender nothing."""

from collections.abc import Callable

from tests.attack.attempts.bodies import HELD
from tests.attack.messages import CHECK, INFER
from tests.attack.suite import CUT_OFF, STILL_OPEN, Scene, attempt
from tests.attack.wire import Connection
from tests.attack.world import STRANGER, Kind, Mode
from tests.support.h2 import (
    CANCEL,
    CONTINUATION,
    DATA,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    literal,
    request_headers,
)

ENDED = (
    STILL_OPEN,
    *CUT_OFF,
    "GOAWAY_COMPRESSION_ERROR",
    "GOAWAY_FLOW_CONTROL_ERROR",
    "GOAWAY_FRAME_SIZE_ERROR",
    "GOAWAY_INTERNAL_ERROR",
    "GOAWAY_STREAM_CLOSED",
)
_UNSENT = 1 << 20


@attempt(Kind(), *ENDED)
def continuation_flood(scene: Scene) -> None:
    """Headers that go on for 320 MB in CONTINUATION frames, and in empty ones."""
    filler = literal("a", "b" * 8000) * 2
    for piece in (filler, b""):
        connection = scene.connect(STRANGER)
        number = connection.number()
        connection.send(frame(HEADERS, literal(":method", "POST"), 0, number))
        whole = frame(CONTINUATION, piece, 0, number)
        _flood(scene, [connection], whole * 50, scene.of(8, 1))


@attempt(Kind(), *ENDED)
def settings_flood(scene: Scene) -> None:
    """SETTINGS without end, each of which wants an answer that is not read."""
    _flood(scene, [scene.connect(STRANGER) for _ in range(2)], frame(SETTINGS) * 500, scene.of(8, 1))


@attempt(Kind(), *ENDED)
def ping_flood(scene: Scene) -> None:
    """PING without end."""
    for _ in range(scene.of(8, 1)):
        connection = scene.connect(STRANGER)
        _flood(scene, [connection], frame(PING, bytes(8)) * 500, 1.0)


@attempt(Kind(), *ENDED, short=False)
def window_and_priority_flood(scene: Scene) -> None:
    """WINDOW_UPDATE, PRIORITY and frames of unknown kinds without end."""
    for piece in (
        frame(WINDOW_UPDATE, b"\0\0\0\1"),
        frame(PRIORITY, b"\0\0\0\0\1", 0, 1),
        frame(0xBE, b"x" * 16),
    ):
        _flood(scene, [scene.connect(STRANGER)], piece * 500, scene.of(4, 1))


@attempt(Kind(), *ENDED)
def empty_data_flood(scene: Scene) -> None:
    """Empty DATA frames without end, on a call that is under way."""
    connection = scene.connect()
    stream = connection.open(INFER)
    _flood(scene, [connection], frame(DATA, b"", 0, stream.number) * 500, scene.of(8, 1))


@attempt(Kind(), *ENDED)
def rapid_reset(scene: Scene) -> None:
    """Calls that are opened and given up at once, on eight connections of one address."""
    _reset_rapidly(scene, scene.connect_many(8, STRANGER))


@attempt(Kind(Mode.TOKEN), *ENDED)
def rapid_reset_from_many_addresses(scene: Scene) -> None:
    """The same without a token, from sixteen source addresses: a device with one is answered."""
    made = [scene.connect(STRANGER, source=f"127.0.4.{number + 1}") for number in range(16)]
    _reset_rapidly(scene, made)


@attempt(Kind(Mode.TOKEN), *ENDED)
def rapid_calls_and_resets_of_strangers(scene: Scene) -> None:
    """Whole Health/Check calls without a token, each given up as soon as it is sent."""
    connections = scene.connect_many(4, STRANGER)
    block = b"".join(literal(name, value) for name, value in request_headers(CHECK))

    def called_and_reset(connection: Connection) -> bytes:
        out = bytearray()
        for _ in range(50):
            number = connection.number()
            out += frame(HEADERS, block, 4, number) + frame(DATA, bytes(5), 1, number)
            out += frame(RST_STREAM, CANCEL.to_bytes(4, "big"), 0, number)
        return bytes(out)

    _flood_each(scene, connections, called_and_reset, scene.of(8, 1))


@attempt(Kind(), *HELD, *ENDED)
def too_many_streams(scene: Scene) -> None:
    """5000 calls at once on one connection: all but `max_streams` are refused."""
    connection = scene.connect()
    streams = [connection.open(INFER) for _ in range(5000)]
    scene.pump(lambda: sum(bool(one.status) for one in streams) >= 4800, 10)
    scene.saw_all(streams)
    left = sum(not one.status for one in streams)
    scene.require(left <= 200, f"{left} streams of one connection are open at once")


def _reset_rapidly(scene: Scene, connections: list[Connection]) -> None:
    block = b"".join(literal(name, value) for name, value in request_headers(INFER))

    def opened_and_reset(connection: Connection) -> bytes:
        out = bytearray()
        for _ in range(100):
            number = connection.number()
            out += frame(HEADERS, block, 4, number) + frame(RST_STREAM, CANCEL.to_bytes(4, "big"), 0, number)
        return bytes(out)

    _flood_each(scene, connections, opened_and_reset, scene.of(8, 1))


def _flood(scene: Scene, connections: list[Connection], made: bytes, seconds: float) -> None:
    _flood_each(scene, connections, lambda _: made, seconds)


def _flood_each(
    scene: Scene, connections: list[Connection], made: Callable[[Connection], bytes], seconds: float
) -> None:
    """Keep each connection full until the time is over or all are cut off; note how each ended."""

    def refill() -> bool:
        for connection in connections:
            if not connection.ending and connection.unsent < _UNSENT:
                connection.send(made(connection))
        return all(connection.ending for connection in connections)

    scene.pump(refill, seconds)
    for connection in connections:
        scene.saw(connection.ending or STILL_OPEN)
        connection.close()
