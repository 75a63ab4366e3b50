"""Reads the body of a request, within bounds of bytes and of time."""

import time
from collections.abc import Callable
from typing import Any
from wsgiref.types import WSGIEnvironment

from spillover.common.errors import InvalidInputError, SlowCallerError, TooLargeError

BODY_LIMIT_S = 15.0
"""How long a body may take to arrive."""
_CHUNK = 1 << 16


def told_length(text: str) -> int | None:
    """Bytes of the body by the header `Content-Length`; None where it tells none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def read_body(environ: WSGIEnvironment, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> bytes:
    """The whole body. `clock` gives monotonic seconds.

    Raises:
        TooLargeError: it is longer than `max_bytes`; nothing was read.
        InvalidInputError: its length is not told, or it ends before.
        SlowCallerError: it did not come in time.
        ConnectionAbortedError: the client has gone.
    """
    length = told_length(environ.get("CONTENT_LENGTH", ""))
    if length is None:
        raise InvalidInputError("the request must say its Content-Length")
    if length > max_bytes:
        raise TooLargeError(f"{length} bytes are too many; the limit is {max_bytes}")
    source: Any = environ["wsgi.input"]
    parts, left, end_s = [], length, clock() + BODY_LIMIT_S
    while left:
        try:
            part = source.read1(min(left, _CHUNK))
        except TimeoutError as error:
            raise SlowCallerError("the request's body did not come in time") from error
        except OSError as error:  # over TLS gone in the middle of a record
            raise ConnectionAbortedError(str(error)) from error
        if not part:
            raise InvalidInputError(f"the request ends after {length - left} of {length} bytes")
        parts.append(part)
        left -= len(part)
        if left and clock() > end_s:
            raise SlowCallerError(f"the request's body took longer than {BODY_LIMIT_S:g} s")
    return b"".join(parts)
