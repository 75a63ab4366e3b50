"""Raw HTTP/2 (RFC 9113) on a socket, for what no well-behaved gRPC client would send."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from spillover.cloud.server import Running
from tests.support.serving import CALL_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
END_STREAM, END_HEADERS = 1, 4
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
ENHANCE_YOUR_CALM = 11


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """A frame, of the connection unless a stream is said."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def setting(identifier: int, value: int) -> bytes:
    """One entry of a SETTINGS frame."""
    return identifier.to_bytes(2, "big") + value.to_bytes(4, "big")


def call(method: str, message: bytes) -> bytes:
    """A whole gRPC call on stream 1; headers as literals of HPACK (RFC 7541, 6.2.2)."""
    headers = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "x"}
    headers |= {"te": "trailers", "content-type": "application/grpc"}
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return frame(HEADERS, block, END_HEADERS, 1) + frame(DATA, body, END_STREAM, 1)


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
