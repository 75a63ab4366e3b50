"""Reads one request, has it answered, and bounds what its client may take of bytes and time."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BufferedIOBase
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.types import WSGIEnvironment

from spillover.common.net.http.body import told_length

MAX_HEADER_BYTES = 16 * 1024
"""The longest request, with its headers."""
SILENCE_LIMIT_S = 10.0
"""Seconds for which a client may send or receive nothing."""
LINGER_BYTES = 32 * 1024 * 1024
"""What is read of a body that nobody wanted: a client that is cut off while it sends gets no answer."""
LINGER_S = 1.0
"""How long such a client may be silent."""

Proven = Callable[[], None]
"""Notes that the caller of the running request has proven who it is."""

STREAM = "spillover.stream"
"""Where an application finds a `Stream`."""

Stream = Callable[[], bool]
"""Notes that the answer to the running request has no end; false when there are too many of them.

`REQUEST_LIMIT_S` does not hold for it. Each part of it must be read within `SILENCE_LIMIT_S`.
"""

PEER, PROVEN = "spillover.peer_certificate", "spillover.proven"
"""Where an application finds the client's verified certificate (DER or None), and a `Proven`."""


class TooLongError(Exception):
    """The request is longer than `MAX_HEADER_BYTES`."""


class LimitedRequest:
    """What a handler reads its request from: a file whose lines together are of limited length."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._left = MAX_HEADER_BYTES
        self.body_bytes = 0
        """What was read of the body."""

    def readline(self, limit: int = -1) -> bytes:
        """One line. Raises TooLongError when the request is too long."""
        if limit >= 0 and self._left < limit:
            limit = self._left + 1
        line = self._file.readline(limit)
        self._left -= len(line)
        if self._left < 0:
            raise TooLongError
        return line

    def read1(self, size: int) -> bytes:
        """Some bytes of the body; empty at its end. Raises OSError."""
        data = self._file.read1(size)
        self.body_bytes += len(data)
        return data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - all else as it is
        return getattr(self._file, name)


class TimedAnswer:
    """What a handler writes its answer to; a client that does not read it in time has gone."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        """Send all of `data`. Raises ConnectionAbortedError, which wsgiref takes for the client's end."""
        try:
            return self._file.write(data)
        except OSError as error:  # too slow, or over TLS gone in the middle of a record
            raise ConnectionAbortedError(str(error)) from error

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - all else as it is
        return getattr(self._file, name)


class Handler(WSGIRequestHandler):
    """Serves one connection, which is one request."""

    timeout = SILENCE_LIMIT_S

    def setup(self) -> None:
        """Bound the length of the request."""
        super().setup()
        self._request = LimitedRequest(self.rfile)
        self.rfile = self._request  # type: ignore[assignment]  # as far as it is used
        self.wfile = TimedAnswer(self.wfile)  # type: ignore[assignment]

    def handle(self) -> None:
        """Answer the request, one that is too long too."""
        try:
            super().handle()
            self._linger()
        except TooLongError:
            self.requestline, self.request_version, self.command = "", "", ""
            self.send_error(431, "Request Header Fields Too Large")

    def _linger(self) -> None:
        """Take what is left of the request's body, so that who still sends it hears the answer."""
        headers = getattr(self, "headers", None)  # none of a line that is no request
        length = told_length(headers.get("Content-Length", "")) if headers else None
        if length is None:
            return
        left = min(length - self._request.body_bytes, LINGER_BYTES)
        self.connection.settimeout(LINGER_S)
        with suppress(OSError):  # it has gone
            while left > 0 and (data := self._request.read1(min(left, 1 << 16))):
                left -= len(data)

    def get_environ(self) -> WSGIEnvironment:
        """Note that the request is here; add the client's certificate, and what applications may note."""
        connection = self.connection
        server: Any = self.server
        place = server.places.find(connection)

        def proven() -> None:
            if place is not None:
                place.proven = True

        if place is not None:
            place.asked = True
        der = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
        stream = partial(server.places.stream, connection)
        return super().get_environ() | {PEER: der, PROVEN: proven, STREAM: stream}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that is overridden
        """Requests are not logged."""
