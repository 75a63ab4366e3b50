"""Raw HTTP/2 (RFC 9113) on a socket, for what no well-behaved gRPC client would send."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from cloud.server import Running
from tests.serving import CALL_S

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
MAX_CONCURRENT_STREAMS = 3
ENHANCE_YOUR_CALM = 11


def frame(kind: int, payload: bytes = b"") -> bytes:
    """A frame of the connection, without flags."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload


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
