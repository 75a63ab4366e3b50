"""Finds the records in the file of a spool, whatever has happened to its bytes.

Power cuts, bad sectors, two daemons on one file and file systems that mend themselves leave blocks that are
torn, unreadable, elsewhere or twice. A record counts if its header and its body are whole, wherever it lies.
So each body is read; a header whose body is not its own hides nothing behind it. That costs no more than the
search through free blocks, which reads them all.
"""

import errno
import os
from dataclasses import dataclass, field

import google_crc32c

from spillover.common.errors import SpilloverError
from spillover.edge.spool.record import (
    BLOCK_BYTES,
    HEADER_BYTES,
    Header,
    decode_header,
    looks_like_header,
    was_header,
)

_CHUNK_BYTES = 256 * BLOCK_BYTES
_MAX_READS = 16
"""A file is given up after so many times its size was read: most blocks say that a large record begins."""


class UnusableError(SpilloverError):
    """The disk's fault: the file was never a spool, or is beyond repair; the text says which."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record's header and its first block."""

    header: Header
    block: int

    @property
    def rank(self) -> tuple[float, int]:
        """Order of eviction: the lowest value first, among equals the oldest."""
        return (self.header.value, self.header.record_id)

    @property
    def age_rank(self) -> tuple[float, int]:
        """Order of age: the oldest first."""
        return (self.header.clock_s, self.header.record_id)


@dataclass(slots=True)
class Found:
    """What is in a file."""

    records: list[Stored] = field(default_factory=list)
    """Whole records, each once, in the order of their places; no two share a block."""
    torn: list[Header] = field(default_factory=list)
    """Whole headers, each once, whose body is nowhere."""
    damaged_headers: int = 0
    duplicates: int = 0
    """Copies of `records`, or of their headers."""
    leftovers: list[int] = field(default_factory=list)
    """Blocks that begin like a record and are none of `records`."""
    unreadable: list[int] = field(default_factory=list)
    """Blocks that the disk cannot read."""
    has_traces: bool = False
    """Whether a spool has used the file: a record is in it, or was."""


def scan(file: int) -> Found:
    """Look through the open file; it stays as it is.

    Raises:
        OSError: the disk fails as a whole; blocks that cannot be read are only noted.
        UnusableError: it is not empty and holds no trace of a record, or looking would take too long.
    """
    return _Scan(file).run()


def read(file: int, size: int, offset: int) -> bytes | None:
    """At most `size` bytes, fewer at the end of the file; None for a place that cannot be read."""
    try:
        return os.pread(file, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None


class _Scan:
    """One look through a file."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._size = os.fstat(file).st_size
        self._blocks = -(-self._size // BLOCK_BYTES)
        self._may_read = _MAX_READS * self._size
        self._found = Found()
        self._headers: set[Header] = set()
        self._bodiless: dict[Header, None] = {}
        self._chunk: bytes | None = b""
        self._chunk_at = -1

    def run(self) -> Found:
        block, has_bytes = 0, False
        while block < self._blocks:
            step = 1
            data = self._start_of(block)
            if data is None:
                self._found.unreadable.append(block)
            elif header := decode_header(data):
                self._found.has_traces = True
                step = self._take(header, block)
            elif looks_like_header(data):
                self._found.has_traces = True
                self._found.damaged_headers += 1
                self._found.leftovers.append(block)
            else:
                self._found.has_traces |= was_header(data)
                has_bytes = has_bytes or any(data)
            block += step
        if has_bytes and not self._found.has_traces:
            raise UnusableError("no record was ever written to it")
        self._found.torn = [header for header in self._bodiless if header not in self._headers]
        self._found.duplicates += len(self._bodiless) - len(self._found.torn)
        return self._found

    def _take(self, header: Header, block: int) -> int:
        """Note the record that begins here; the number of blocks that it explains."""
        if not self._is_whole(header, block):
            self._bodiless[header] = None
            self._found.leftovers.append(block)
            return 1
        if header in self._headers:
            self._found.duplicates += 1
            self._found.leftovers.append(block)
        else:
            self._headers.add(header)
            self._found.records.append(Stored(header, block))
        return header.blocks

    def _is_whole(self, header: Header, block: int) -> bool:
        offset = block * BLOCK_BYTES + HEADER_BYTES
        left = header.body_bytes
        if offset + left > self._size:
            return False
        self._may_read -= left
        if self._may_read < 0:
            raise UnusableError("most of it begins like a record and is none")
        crc = 0
        while left:
            data = read(self._file, min(left, _CHUNK_BYTES), offset)
            if not data:
                return False
            crc = google_crc32c.extend(crc, data)
            left, offset = left - len(data), offset + len(data)
        return crc == header.body_crc

    def _start_of(self, block: int) -> bytes | None:
        """The first bytes of a block; None when it cannot be read."""
        at, offset = divmod(block * BLOCK_BYTES, _CHUNK_BYTES)
        if at != self._chunk_at:
            self._chunk_at, self._chunk = at, read(self._file, _CHUNK_BYTES, at * _CHUNK_BYTES)
        if self._chunk is None:  # one of its blocks is bad
            return read(self._file, HEADER_BYTES, block * BLOCK_BYTES)
        return self._chunk[offset : offset + HEADER_BYTES]
