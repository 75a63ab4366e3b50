"""Malformed headers, and calls that are no calls."""

from tests.attack import messages
from tests.attack.messages import CHECK, INFER, LIST_MODELS, LIVE
from tests.attack.suite import CUT_OFF, STILL_OPEN, Scene, attempt
from tests.attack.wire import Connection
from tests.attack.world import STRANGER, Kind
from tests.support.h2 import CONTINUATION, HEADERS, frame, framed, literal, request_headers

REFUSED = (
    "INVALID_ARGUMENT",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "RST_PROTOCOL_ERROR",
    "RST_REFUSED_STREAM",
    "RST_ENHANCE_YOUR_CALM",
    "HTTP_400",
    "HTTP_404",
    "HTTP_405",
    "HTTP_415",
    "HTTP_431",
    *CUT_OFF,
)
GRPC_CORE = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "RST_INTERNAL_ERROR", "RST_NO_ERROR", "CANCELLED")
"""What gRPC's core itself answers to what it cannot parse, before any of this project's code runs."""

_HEADERS = (
    *(("grpc-timeout", value) for value in ("nonsense", "-1S", "99999999999999S", "0n", "")),
    *(("grpc-encoding", value) for value in ("nonsense", "\xff", "gzip, deflate")),
    ("grpc-accept-encoding", "a" * 4000),
    ("x-bin", "%%%"),
    ("grpc-trace-bin", "!" * 100),
    ("grpc-tags-bin", "====="),
    ("content-length", "-5"),
    ("authorization", "\x00"),
    ("spillover-device", "\xff\xfe"),
    ("spillover-device", ""),
    ("UPPER", "x"),
    ("", "x"),
)
_NO_HPACK = (
    b"\xff" * 10,  # an index without end
    b"\x80",  # index 0
    b"\xfe",  # an index that is not there
    b"\x3f\xff\xff\xff\xff\xff\xff\x7f",  # a table without end
    b"\0\x7f\xff\xff\xff\xff\x0f",  # a string of 4 GB
    b"\0\x85\xff\xff\xff\xff\xff\x01a",  # Huffman's end of string inside of one
    b"\0\x05ab",  # cut short
    b"\x40\x01a\x01b" * 4000,  # one entry of the table after the other
)


@attempt(Kind(), *REFUSED, *GRPC_CORE, "OK", "DEADLINE_EXCEEDED")
def malformed_headers(scene: Scene) -> None:
    """Values of grpc-timeout, grpc-encoding and binary headers that are none; a few lines in the log."""
    before = scene.server.log.read_bytes().count(b"\n")
    for _ in range(scene.of(20, 2)):
        calls = {}
        for name, value in _HEADERS:
            connection = scene.connect()
            stream = calls[f"{name}: {value[:20]!r}"] = connection.open(CHECK, [(name, value)])
            connection.data(stream, framed(b""), end=True)
        scene.saw_each(calls)
    lines = scene.server.log.read_bytes().count(b"\n") - before
    scene.require(lines < 40, f"{lines} lines in the log")


@attempt(Kind(), *REFUSED, *GRPC_CORE)
def damaged_compression_of_headers(scene: Scene) -> None:
    """Header blocks that are no HPACK: indices out of range, endless numbers, table sizes, cut strings."""
    scene.saw_each({block[:6].hex(): scene.connect(STRANGER).open_block(block) for block in _NO_HPACK})


@attempt(Kind(), *REFUSED)
def large_metadata(scene: Scene) -> None:
    """Metadata of 4 kB passes; of 9 kB, 60 kB, 2 MB, and 5000 headers are refused."""
    calls = {f"{size} bytes": [("x", "y" * size)] for size in (4_000, 9_000, 60_000, 2_000_000)}
    calls["5000 headers"] = [(f"x{number}", "y") for number in range(5000)]
    streams = {}
    for what, metadata in calls.items():
        connection = scene.connect()
        # The limit is in the server's SETTINGS, and in force once they are acknowledged.
        _settle(scene, connection)
        streams[what] = connection.open(LIVE, metadata)
        connection.data(streams[what], framed(b""), end=True)
    scene.saw_each({"4000 bytes": streams.pop("4000 bytes")}, {"OK"})
    scene.saw_each(streams)


def _settle(scene: Scene, connection: Connection) -> None:
    scene.pump(lambda: connection.settled)
    scene.hold(0.1)


@attempt(
    Kind(fresh=True),
    *(*REFUSED, "GOAWAY_SETTINGS_TIMEOUT", "DEADLINE_EXCEEDED", "UNAVAILABLE", STILL_OPEN),
    front_bounds=True,
    short=False,
)
def large_metadata_without_handshake(scene: Scene) -> None:
    """Metadata of 2 MB in many calls on connections that never acknowledge the server's SETTINGS."""
    connections = [scene.connect(acks=False) for _ in range(4)]
    headers = request_headers(INFER, [("x", "y" * 2_000_000)])
    block = b"".join(literal(name, value) for name, value in headers)
    streams = [one.open_block(block) for _ in range(scene.of(40, 15)) for one in connections]
    scene.hold(scene.of(20, 2))
    scene.saw_all(streams)


@attempt(
    Kind(fresh=True),
    *(STILL_OPEN, "GOAWAY_SETTINGS_TIMEOUT", "GOAWAY_COMPRESSION_ERROR", *CUT_OFF),
    front_bounds=True,
    short=False,
)
def large_headers_never_finished(scene: Scene) -> None:
    """Headers of 15 MB whose end never comes, on connections that never acknowledge SETTINGS."""
    block = literal("x", "y" * 15_000_000)
    pieces = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    made = scene.connect_many(scene.of(100, 30), STRANGER, acks=False)
    for connection in made:
        number = connection.number()
        rest = b"".join(frame(CONTINUATION, piece, 0, number) for piece in pieces[1:])
        connection.send(frame(HEADERS, pieces[0], 0, number) + rest)
        scene.pump(limit_s=0.01)
    scene.hold(scene.of(20, 2))
    for connection in made:
        scene.saw(connection.ending or STILL_OPEN)


@attempt(Kind(), *REFUSED, *GRPC_CORE, "OK")
def methods_that_do_not_exist(scene: Scene) -> None:
    """Paths that are no methods, GET, other content types, no `te`."""
    paths = ("/", "", "*", "/x", messages.OWN, messages.OWN + "Nothing", "/a/b/c", "/" + "a" * 4000)
    calls = {path[:30]: scene.connect().call(path, b"") for path in paths}
    more: tuple[dict[str, str], ...] = (
        {"method": "GET"},
        {"method": "PUT"},
        {"content_type": "application/json"},
        {"te": "x"},
        {"scheme": "ftp"},
    )
    for replaced in more:
        headers = request_headers(LIST_MODELS, (), **replaced)
        connection = scene.connect()
        stream = connection.open_block(b"".join(literal(name, value) for name, value in headers))
        connection.data(stream, framed(b""), end=True)
        calls[str(replaced)] = stream
    scene.saw_each(calls)


@attempt(Kind(), *REFUSED, "UNAVAILABLE", "INTERNAL", "CANCELLED", "DEADLINE_EXCEEDED", "RST_NO_ERROR")
def calls_without_message(scene: Scene) -> None:
    """Unary calls that end without a message, in the middle of one, or with one of a kind that is not."""
    good = framed(messages.frame())
    bodies = (b"", good[:3], good[:20], good[:5], framed(b"", length=1 << 31), b"\x07" + good[1:])
    for path in (INFER, CHECK, LIVE, LIST_MODELS):
        calls = {}
        for body in bodies:
            connection = scene.connect()
            stream = calls[f"{path} with {body[:5].hex()}, {len(body)} bytes"] = connection.open(path)
            connection.data(stream, body, end=True)
        # The requests of the others have no fields: none at all says as much.
        scene.saw_each(calls, () if path == INFER else {*scene.expects, "OK"})
    block = b"".join(literal(name, value) for name, value in request_headers(INFER))
    scene.saw_each({"headers alone": scene.connect().open_block(block, end=True)})
