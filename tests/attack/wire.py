"""A raw HTTP/2 client (RFC 9113): many connections and streams at once, well-behaved only where asked to be.

Nothing here has a thread. `pump` moves bytes on all connections that it is given until a condition holds.
"""

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import grpc
import hpack

from tests.support.h2 import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Header,
    frame,
    framed,
    literal,
    request_headers,
    setting,
)
from tests.support.h2 import settings as read_settings

_DEFAULT_WINDOW = 65_535
_LARGEST_WINDOW = 2**31 - 1
_BUFFERED = 262_144
_CONNECT_S = 15.0

STATUS_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
ERROR_NAMES = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)


class Stream:
    """One call: what is still to be sent, and how it has ended."""

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.window = window
        self.received = 0
        """Bytes of the answer so far."""
        self.status = ""
        """gRPC's status, `RST_...`, `HTTP_...` or what became of the connection; empty: none so far."""
        self.outgoing: deque[tuple[memoryview, bool]] = deque()


class Connection:
    """One connection. `window` is what the other side may send on each stream; `reads` gives it more.

    `acks`: whether SETTINGS and PING are answered. Raises OSError when no connection comes about.
    """

    def __init__(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext | None = None,
        *,
        source: str = "127.0.0.1",
        metadata: Sequence[Header] = (),
        window: int = 1 << 20,
        reads: bool = True,
        acks: bool = True,
        greets: bool = True,
    ) -> None:
        self.metadata = metadata
        self.streams: dict[int, Stream] = {}
        self.ending = ""
        """How the connection has ended: `GOAWAY_...` or `closed`; empty while it is open."""
        self.received = 0
        """Bytes that have come, of all kinds."""
        self.settled = False
        """Whether the other side's SETTINGS have come: the handshake is over."""
        self._goaway = ""
        self._reads, self._acks, self._own_window = reads, acks, window
        self._next = 1
        self._window, self._stream_window, self._frame = _DEFAULT_WINDOW, _DEFAULT_WINDOW, 16_384
        self._decoder = hpack.Decoder()
        self._incoming = bytearray()
        self._block, self._block_stream, self._block_flags = b"", 0, 0
        self._outgoing = bytearray()
        self._sending: deque[Stream] = deque()
        self.socket = _connected(address, tls, source)
        if greets:
            more = frame(WINDOW_UPDATE, (_LARGEST_WINDOW - _DEFAULT_WINDOW).to_bytes(4, "big"))
            self.send(PREFACE + frame(SETTINGS, setting(INITIAL_WINDOW_SIZE, window)) + more)

    @property
    def unsent(self) -> int:
        """Bytes that the other side has not taken yet."""
        return len(self._outgoing)

    @property
    def wants_to_write(self) -> bool:
        """Whether there is something that may be sent now."""
        return bool(self._outgoing) or bool(self._window and any(s.window > 0 for s in self._sending))

    def close(self) -> None:
        """End it without a word."""
        self.socket.close()
        self._ended("closed")

    def send(self, data: bytes) -> None:
        """Send bytes as they are, as soon as the other side takes them."""
        if not self.ending:
            self._outgoing += data
            self._flush()

    def number(self) -> int:
        """The next stream's number."""
        self._next += 2
        return self._next - 2

    def open(self, path: str, more: Iterable[Header] = (), *, end: bool = False, **replaced: str) -> Stream:
        """Begin a call: its headers, with `metadata` and `more`."""
        headers = request_headers(path, (*self.metadata, *more))
        return self.open_block(b"".join(literal(name, value) for name, value in headers), end=end)

    def open_block(self, block: bytes, *, end: bool = False) -> Stream:
        """Begin a call with a header block that is encoded already, in as many frames as it takes."""
        stream = Stream(self.number(), self._stream_window)
        if self.ending:
            stream.status = self.ending
            return stream
        self.streams[stream.number] = stream
        pieces = [block[at : at + self._frame] for at in range(0, len(block), self._frame)] or [b""]
        data = bytearray()
        for index, piece in enumerate(pieces):
            flags = (END_HEADERS if index == len(pieces) - 1 else 0) | (
                END_STREAM if end and not index else 0
            )
            data += frame(CONTINUATION if index else HEADERS, piece, flags, stream.number)
        self.send(bytes(data))
        return stream

    def data(self, stream: Stream, body: bytes, *, end: bool = False) -> None:
        """Send a part of a call's body, as the windows allow."""
        if stream.status:
            return
        stream.outgoing.append((memoryview(body), end))
        if stream not in self._sending:
            self._sending.append(stream)
        self._flush()

    def call(self, path: str, message: bytes, more: Iterable[Header] = ()) -> Stream:
        """Begin a call and send all of its one message."""
        stream = self.open(path, more)
        self.data(stream, framed(message), end=True)
        return stream

    def reset(self, stream: Stream, error: int = CANCEL) -> None:
        """Give up a call."""
        self.send(frame(RST_STREAM, error.to_bytes(4, "big"), 0, stream.number))
        stream.status = stream.status or "given up"
        stream.outgoing.clear()

    def read(self) -> None:
        """Take what has come; never waits."""
        while not self.ending:
            try:
                data = self.socket.recv(262_144)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError:
                data = b""
            if not data:
                self._ended(self._goaway or "closed")
                break
            self.received += len(data)
            self._incoming += data
            self._take_frames()

    def write(self) -> None:
        """Send what may be sent; never waits."""
        self._flush()

    def _flush(self) -> None:
        while not self.ending:
            self._fill()
            if not self._outgoing:
                return
            try:
                sent = self.socket.send(self._outgoing[:_BUFFERED])
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:
                # What it said before it closed may still be there to be read.
                self._outgoing.clear()
                self.read()
                self._ended(self._goaway or "closed")
                return
            del self._outgoing[:sent]

    def _fill(self) -> None:
        """Move parts of bodies into what is sent, one frame of each stream in turn."""
        for _ in range(len(self._sending)):
            if len(self._outgoing) >= _BUFFERED or self._window <= 0:
                return
            stream = self._sending.popleft()
            if stream.status or not stream.outgoing:
                continue
            self._sending.append(stream)
            body, end = stream.outgoing[0]
            size = max(0, min(len(body), self._frame, self._window, stream.window))
            if not size and len(body):
                continue
            last = size == len(body)
            flags = END_STREAM if end and last else 0
            self._outgoing += frame(DATA, bytes(body[:size]), flags, stream.number)
            self._window -= size
            stream.window -= size
            if last:
                stream.outgoing.popleft()
            else:
                stream.outgoing[0] = (body[size:], end)

    def _take_frames(self) -> None:
        data, at = self._incoming, 0
        while len(data) - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            if len(data) - at < 9 + length:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & _LARGEST_WINDOW
            self._take(kind, flags, stream, bytes(data[at + 9 : at + 9 + length]))
            at += 9 + length
        del data[:at]

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._take_settings(payload)
        elif kind == PING and not flags & ACK and self._acks:
            self.send(frame(PING, payload, ACK))
        elif kind == GOAWAY:
            self._goaway = "GOAWAY_" + _error(int.from_bytes(payload[4:8], "big"))
        elif kind == WINDOW_UPDATE:
            self._take_window(number, int.from_bytes(payload, "big"))
        elif kind == DATA:
            self._take_data(number, len(payload))
        elif kind in {HEADERS, CONTINUATION}:
            self._take_headers(kind, flags, number, payload)
        elif kind == RST_STREAM:
            self._finish(number, "RST_" + _error(int.from_bytes(payload, "big")))
        if kind in {DATA, HEADERS} and flags & END_STREAM and not self._block_stream:
            self._finish(number, "no status")

    def _take_settings(self, payload: bytes) -> None:
        found = read_settings(payload)
        self.settled = True
        self._frame = found.get(MAX_FRAME_SIZE, self._frame)
        if (window := found.get(INITIAL_WINDOW_SIZE)) is not None:
            for stream in self.streams.values():
                stream.window += window - self._stream_window
            self._stream_window = window
        if self._acks:
            self.send(frame(SETTINGS, b"", ACK))

    def _take_window(self, number: int, more: int) -> None:
        if not number:
            self._window += more
        elif stream := self.streams.get(number):
            stream.window += more

    def _take_data(self, number: int, size: int) -> None:
        if stream := self.streams.get(number):
            stream.received += size
        if self._reads and size:
            more = size.to_bytes(4, "big")
            self.send(frame(WINDOW_UPDATE, more) + frame(WINDOW_UPDATE, more, 0, number))

    def _take_headers(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == HEADERS:
            self._block, self._block_flags = b"", flags
            if flags & 0x8:  # padded
                payload = payload[1 : len(payload) - payload[0]]
            if flags & 0x20:  # with a priority
                payload = payload[5:]
        self._block += payload
        self._block_stream = 0 if flags & END_HEADERS else number
        if self._block_stream:
            return
        headers = {str(name): str(value) for name, value in self._decoder.decode(self._block)}
        if (status := headers.get("grpc-status")) is not None:
            self._finish(number, STATUS_NAMES.get(int(status), f"status {status}"))
        elif self._block_flags & END_STREAM and (code := headers.get(":status", "")):
            self._finish(number, f"HTTP_{code}")
        elif headers.get(":status", "200") != "200":
            self._finish(number, f"HTTP_{headers[':status']}")

    def _finish(self, number: int, status: str) -> None:
        """Note a call's first ending; what comes after is of no interest."""
        if stream := self.streams.pop(number, None):
            stream.status = stream.status or status
            stream.outgoing.clear()

    def _ended(self, how: str) -> None:
        self.ending = self.ending or how
        for number in list(self.streams):
            self._finish(number, self.ending)
        self._sending.clear()
        with suppress(OSError):
            self.socket.close()


def pump(connections: Sequence[Connection], until: Callable[[], bool], limit_s: float) -> bool:
    """Move bytes on all of them until the condition holds, `limit_s` at most; tells whether it held."""
    end_s = time.monotonic() + limit_s
    polled = _Polled(connections)
    while not (held := until()) and (left_s := end_s - time.monotonic()) > 0:
        polled.turn(min(left_s, 0.05))
    return held


class _Polled:
    """Open connections and what each waits for."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._poller = select.poll()
        self._events: dict[int, int] = {}
        self._connections: dict[int, Connection] = {}
        for connection in connections:
            connection.read()  # TLS may hold what no poll tells of
            connection.write()
            if not connection.ending:
                number = connection.socket.fileno()
                self._connections[number], self._events[number] = connection, 0
                self._poller.register(number, 0)

    def turn(self, wait_s: float) -> None:
        """Take and send what is possible now."""
        for number, connection in list(self._connections.items()):
            if connection.ending:
                self._poller.unregister(number)
                del self._connections[number]
            elif (events := _events(connection)) != self._events[number]:
                self._poller.modify(number, events)
                self._events[number] = events
        if not self._connections:
            time.sleep(wait_s)
            return
        for number, event in self._poller.poll(wait_s * 1000):
            connection = self._connections[number]
            if event & ~select.POLLOUT:
                connection.read()
            connection.write()


def _events(connection: Connection) -> int:
    return select.POLLIN | (select.POLLOUT if connection.wants_to_write else 0)


def _connected(address: tuple[str, int], tls: ssl.SSLContext | None, source: str) -> socket.socket:
    """A connected socket that never waits. Raises OSError."""
    plain = socket.create_connection(address, timeout=_CONNECT_S, source_address=(source, 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        secured = tls.wrap_socket(plain) if tls else plain
    except OSError:
        plain.close()
        raise
    secured.setblocking(False)
    return secured


def _error(number: int) -> str:
    return ERROR_NAMES[number] if number < len(ERROR_NAMES) else str(number)
