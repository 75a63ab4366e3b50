"""Raw HTTP/2 (RFC 9113) on a socket, for what no well-behaved gRPC client would send."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from spillover.cloud.server import Running
from tests.support.serving import CALL_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 3, 4, 5
CANCEL, ENHANCE_YOUR_CALM = 8, 11

Header = tuple[str, str]


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """A frame, of the connection unless a stream is said."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def setting(identifier: int, value: int) -> bytes:
    """One entry of a SETTINGS frame."""
    return identifier.to_bytes(2, "big") + value.to_bytes(4, "big")


def framed(message: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """A message with gRPC's five bytes before it; `length` is a lie, if given."""
    return bytes([compressed]) + (len(message) if length is None else length).to_bytes(4, "big") + message


def literal(name: str, value: str) -> bytes:
    """One header of an HPACK block, as a literal without indexing (RFC 7541, 6.2.2)."""
    return b"\0" + _string(name.encode()) + _string(value.encode())


def _string(data: bytes) -> bytes:
    length, out = len(data), bytearray()
    if length < 127:
        out.append(length)
    else:
        out.append(127)
        length -= 127
        while length >= 128:
            out.append(length & 127 | 128)
            length >>= 7
        out.append(length)
    return bytes(out) + data


def request_headers(path: str, more: Iterable[Header] = (), **replaced: str) -> list[Header]:
    """Those of a gRPC call, then `more`; `method`, `scheme`, `content_type` and `te` may be replaced."""
    return [
        (":method", replaced.get("method", "POST")),
        (":scheme", replaced.get("scheme", "http")),
        (":path", path),
        (":authority", "x"),
        ("te", replaced.get("te", "trailers")),
        ("content-type", replaced.get("content_type", "application/grpc")),
        *more,
    ]


def call(method: str, message: bytes) -> bytes:
    """A whole gRPC call on stream 1."""
    block = b"".join(literal(name, value) for name, value in request_headers(method))
    return frame(HEADERS, block, END_HEADERS, 1) + frame(DATA, framed(message), END_STREAM, 1)


@contextmanager
def raw_connection(server: Running) -> Iterator[socket.socket]:
    """A bare TCP connection to the server's port."""
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=CALL_S) as connection:
        yield connection


def frames(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each frame, until the server closes the connection; a reset counts as closing."""
    data = b""
    while True:
        while len(data) >= 9 and len(data) >= 9 + (length := int.from_bytes(data[:3], "big")):
            yield data[3], data[9 : 9 + length]
            data = data[9 + length :]
        try:
            received = connection.recv(65536)
        except ConnectionError:
            return
        if not received:
            return
        data += received


def settings(payload: bytes) -> dict[int, int]:
    """Identifier -> value of a SETTINGS frame."""
    return {
        int.from_bytes(payload[i : i + 2], "big"): int.from_bytes(payload[i + 2 : i + 6], "big")
        for i in range(0, len(payload), 6)
    }
