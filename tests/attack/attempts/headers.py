"""Malformed headers, other protocols than gRPC's, and calls that are no calls."""

import socket
import ssl
from contextlib import suppress

from tests.attack.messages import CHECK, INFER, LIST_MODELS, LIVE, frame
from tests.attack.suite import ATTACKER, CALL_S, CUT_OFF, Scene, attempt
from tests.attack.wire import framed, literal, request_headers
from tests.attack.world import STRANGER, Kind, Mode, client_tls

REFUSED = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED",
           "RST_PROTOCOL_ERROR", "RST_REFUSED_STREAM", "RST_ENHANCE_YOUR_CALM", "HTTP_431", "HTTP_400", *CUT_OFF)  # fmt: skip
GRPC_CORE = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "RST_INTERNAL_ERROR", "RST_NO_ERROR", "CANCELLED")
"""What gRPC's core itself answers to headers that it cannot parse, before any of this project's code runs."""


@attempt(Kind(), *REFUSED, *GRPC_CORE, "OK")
def malformed_headers(scene: Scene) -> None:
    """Values of grpc-timeout, grpc-encoding and binary headers that are none."""
    for name, value in (
        ("grpc-timeout", "nonsense"), ("grpc-timeout", "-1S"), ("grpc-timeout", "99999999999999S"), ("grpc-timeout", "0n"),
        ("grpc-encoding", "nonsense"), ("grpc-encoding", "\xff"), ("grpc-accept-encoding", "a" * 4000),
        ("x-bin", "%%%"), ("grpc-trace-bin", "!" * 100), ("grpc-tags-bin", "====="), ("content-length", "-5"),
        ("authorization", "\x00"), ("spillover-device", "\xff\xfe"), ("spillover-device", ""), ("UPPER", "x"), ("", "x"),
    ):  # fmt: skip
        connection = scene.connect()
        stream = connection.open(CHECK, [(name, value)])
        connection.data(stream, framed(b""), end=True)
        scene.pump(lambda stream=stream: bool(stream.status), CALL_S)
        status = stream.status or "no status yet"
        scene.saw("DEADLINE_EXCEEDED" if status == "DEADLINE_EXCEEDED" else status,
                  (*scene.expects, "DEADLINE_EXCEEDED"), f"{name}: {value[:20]!r}")  # fmt: skip


@attempt(Kind(), *REFUSED, *GRPC_CORE)
def damaged_compression_of_headers(scene: Scene) -> None:
    """Header blocks that are no HPACK: indices out of range, endless numbers, table sizes, cut strings."""
    for block in (
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x80", b"\xfe", b"\x3f\xff\xff\xff\xff\xff\xff\x7f",
        b"\0\x7f\xff\xff\xff\xff\x0f", b"\0\x85\xff\xff\xff\xff\xff\x01a", b"\0\x05ab", b"\x40\x01a\x01b" * 4000,
    ):  # fmt: skip
        connection = scene.connect(STRANGER)
        stream = connection.open_block(block)
        scene.pump(lambda stream=stream: bool(stream.status))
        scene.saw_all([stream])


@attempt(Kind(), *REFUSED, "OK")
def large_metadata(scene: Scene) -> None:
    """Metadata of 7 kB passes; of 16 kB, 60 kB, 2 MB, and 5000 headers are refused."""
    for size, expected in (
        (7_000, {"OK"}),
        (16_000, REFUSED),
        (60_000, REFUSED),
        (2_000_000, (*REFUSED, *GRPC_CORE)),
    ):
        for connection in (scene.connect(STRANGER),):
            stream = connection.open(LIVE, [("x", "y" * size)])
            connection.data(stream, framed(b""), end=True)
            scene.pump(lambda stream=stream: bool(stream.status))
            scene.saw(stream.status or "no status yet", expected, f"{size} bytes")
    connection = scene.connect(STRANGER)
    stream = connection.open(LIVE, [(f"x{number}", "y") for number in range(5000)])
    scene.pump(lambda: bool(stream.status))
    scene.saw(stream.status or "no status yet", (*REFUSED, *GRPC_CORE), "5000 headers")


@attempt(Kind(), "UNIMPLEMENTED", "RST_INTERNAL_ERROR", "RST_PROTOCOL_ERROR", "RST_NO_ERROR", "HTTP_405", "HTTP_415",
         "HTTP_404", "HTTP_400", "UNKNOWN", "INTERNAL", "PERMISSION_DENIED", "OK", *CUT_OFF)  # fmt: skip
def methods_that_do_not_exist(scene: Scene) -> None:
    """Paths that are no methods, GET, other content types, no `te`."""
    for path in (
        "/",
        "",
        "*",
        "/x",
        "/spillover.v1.Spillover/",
        "/spillover.v1.Spillover/Nothing",
        "/a/b/c",
        "/" + "a" * 4000,
    ):
        connection = scene.connect()
        stream = connection.call(path, b"")
        scene.pump(lambda stream=stream: bool(stream.status))
        scene.saw(stream.status or "no status yet", what=path[:30])
    for replaced in (
        {"method": "GET"},
        {"method": "PUT"},
        {"content_type": "application/json"},
        {"te": "x"},
        {"scheme": "ftp"},
    ):
        connection = scene.connect()
        stream = connection.open(LIST_MODELS, **replaced)
        connection.data(stream, framed(b""), end=True)
        scene.pump(lambda stream=stream: bool(stream.status))
        scene.saw(stream.status or "no status yet", what=str(replaced))


@attempt(Kind(), "closed", "answered")
def other_protocols(scene: Scene) -> None:
    """HTTP/1.1, TLS, SSH and random bytes to the port in the clear."""
    _say_all(scene)
    tls = ssl.create_default_context(cafile=str(scene.world.pki.ca))
    tls.check_hostname = False
    with suppress(OSError):
        scene.connect(STRANGER, tls=tls)
        scene.require(False, "TLS on the port in the clear")


@attempt(Kind(Mode.TOKEN), "closed", "answered")
def other_protocols_to_tls(scene: Scene) -> None:
    """HTTP/1.1, HTTP/2 in the clear and random bytes to the TLS port; HTTP/1.1 inside of TLS; old TLS."""
    _say_all(scene)
    for _ in range(50):
        _say(scene, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    old = ssl.create_default_context(cafile=str(scene.world.pki.ca))
    old.check_hostname = False
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with suppress(OSError):
        scene.connect(STRANGER, tls=old)
        scene.require(False, "TLS 1.1 was spoken")
    connection = scene.connect(STRANGER, tls=client_tls(scene.world.pki, ""), greets=False)
    connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    scene.pump(lambda: bool(connection.ending))
    scene.saw("closed" if connection.ending else "no status yet")
    lines = scene.server.log.read_bytes().count(b"\n")
    scene.require(lines < 40, f"{lines} lines in the log")


@attempt(Kind(), *REFUSED, "UNAVAILABLE", "INTERNAL", "RST_NO_ERROR")
def calls_without_message(scene: Scene) -> None:
    """Unary calls that end without a message, in the middle of one, or with two."""
    good = framed(frame())
    for path in (INFER, CHECK, LIVE, LIST_MODELS):
        for body in (b"", good[:3], good[:20], good[:5], framed(b"", length=1 << 31), b"\x07" + good[1:]):
            connection = scene.connect()
            stream = connection.open(path)
            connection.data(stream, body, end=True)
            scene.pump(lambda stream=stream: bool(stream.status), CALL_S)
            scene.saw(stream.status or "no status yet", (*scene.expects, "CANCELLED", "DEADLINE_EXCEEDED"),
                      f"{path} with {body[:5].hex()}, {len(body)} bytes")  # fmt: skip
    block = b"".join(literal(name, value) for name, value in request_headers(INFER))
    connection = scene.connect()
    stream = connection.open_block(block, end=True)
    scene.pump(lambda: bool(stream.status))
    scene.saw(
        stream.status or "no status yet", (*scene.expects, "CANCELLED", "DEADLINE_EXCEEDED"), "headers alone"
    )


def _say_all(scene: Scene) -> None:
    for said in (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-x\r\n",
        bytes(range(256)) * 4,
        b"PRI * HTTP/2.0\r\n\r\nXX",
    ):
        _say(scene, said)


def _say(scene: Scene, said: bytes) -> None:
    """Say it, and wait until the server closes the connection."""
    with socket.create_connection(
        scene.server.address, timeout=CALL_S, source_address=(ATTACKER, 0)
    ) as plain:
        seen = "closed"
        try:
            plain.sendall(said)
            while plain.recv(65_536):
                pass
        except TimeoutError:
            seen = "no end"
        except OSError:
            pass
        scene.saw(seen)
