"""What the daemon and the child process that updates a model say to each other, over the child's two pipes.

The daemon begins with a `Request`. The child asks for metadata and targets, of which the daemon answers each
with pieces of data and their end, and says at last what has become of it. Each piece is a byte for its kind,
four for its length, and its content.
"""

import enum
import struct
from typing import BinaryIO

import msgspec

from spillover.common.errors import UnavailableError

MOST_BYTES = 1 << 20
"""Of one piece."""
_HEAD = struct.Struct(">BI")


class Kind(enum.IntEnum):
    """What a piece is."""

    REQUEST = 1
    ASK = 2
    DATA = 3
    END = 4
    """All of what was asked for has come."""
    MISSING = 5
    """The server has nothing of that name."""
    FAILED = 6
    """It cannot be fetched now, in words."""
    FINISHED = 7


class Outcome(enum.StrEnum):
    """What has become of an update."""

    INSTALLED = "installed"
    REFUSED = "refused"
    """For good: the bundle can never run here."""
    FAILED = "failed"
    """It may be tried again."""


class Request(msgspec.Struct, frozen=True):
    """What the child is to do."""

    store: str
    """The folder of the store."""
    sha256: str
    """Of the bundle that is wanted."""
    now_unix_s: float
    """The time to judge expiry by."""
    versions: tuple[int, int, int]
    """Of root, targets and timestamp metadata: nothing older is believed."""
    software: str
    task: str
    labels_sha256: str
    runtimes: tuple[str, ...]
    has: tuple[str, ...]
    """Digests of bundles that patches may be applied to."""


class Ask(msgspec.Struct, frozen=True):
    """One thing to be fetched: metadata by name, else a target from an offset on."""

    metadata: str = ""
    sha256: str = ""
    offset: int = 0


class Finished(msgspec.Struct, frozen=True):
    """How it ended."""

    outcome: Outcome
    reason: str = ""
    versions: tuple[int, int, int] | None = None
    """Of the metadata that was accepted; None: none was."""


def piece(kind: Kind, content: bytes = b"") -> bytes:
    """One piece, to be written whole."""
    return _HEAD.pack(kind, len(content)) + content


def read_piece(pipe: BinaryIO) -> tuple[Kind, bytes]:
    """The next piece.

    Raises:
        UnavailableError: the other side has gone, or says something else than pieces.
    """
    kind, length = _HEAD.unpack(_whole(pipe, _HEAD.size))
    if length > MOST_BYTES or kind not in set(Kind):
        raise UnavailableError(f"the other end of the pipe says something else: {kind}, {length} bytes")
    return Kind(kind), _whole(pipe, length)


def _whole(pipe: BinaryIO, length: int) -> bytes:
    data = b""
    while len(data) < length:  # of a pipe without a buffer one read may give less
        if not (more := pipe.read(length - len(data))):
            raise UnavailableError("the other end of the pipe has gone")
        data += more
    return data
