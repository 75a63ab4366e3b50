"""The layout of one record in the arena: a header at the start of a block, its body right after it.

    magic 8 | CRC32C of the rest of the header 4 |
    CRC32C of the body 4 | body bytes 4 | id 8 | value 8 | clock 8 | key bytes 1 | key, padded to 127 | body

Little endian. Header and body have a checksum each: the header's proves its length, so that a scan can step
from record to record without reading bodies; the body's is checked when the record is read.

CRC32C (Castagnoli) is Google's `google-crc32c`, a small wheel for x86-64 and aarch64 on the processors' own
instruction; the zlib module's CRC32 needs no wheel but misses more burst errors at these lengths
(Koopman, "32-bit cyclic redundancy codes for internet applications", 2002).
"""

import math
import struct
from dataclasses import dataclass

import google_crc32c

BLOCK_BYTES = 4096
"""Records begin at multiples of this, the page size of the kernels and file systems that a Pi runs."""

_MAGIC = b"SPILLv1\n"
_REMOVED = b"SPILLv1-"
_PREFIX = struct.Struct("<8sI")
MAX_KEY_BYTES = 127
_REST = struct.Struct(f"<IIQdd{MAX_KEY_BYTES + 1}p")
HEADER_BYTES = _PREFIX.size + _REST.size
REMOVED = _REMOVED.ljust(HEADER_BYTES, b"\0")
"""What takes the place of a removed record's header: a file that never was a spool has none of both."""
_MAX_ID = 1 << 62
_MAX_CLOCK_S = 1e12
"""No spool comes near these, and numbers beyond them leave no room for the next ones."""


@dataclass(frozen=True, slots=True)
class Header:
    """A record without its body.

    `value` orders records, `clock_s` is the spool's own clock, `key` is the owner's name for the record.
    """

    body_crc: int
    body_bytes: int
    record_id: int
    value: float
    clock_s: float
    key: bytes

    @property
    def blocks(self) -> int:
        """Blocks that header and body take."""
        return blocks_for(self.body_bytes)


def blocks_for(body_bytes: int) -> int:
    """Blocks that a record with a body of this size takes."""
    return -(-(HEADER_BYTES + body_bytes) // BLOCK_BYTES)


def encode(record_id: int, value: float, clock_s: float, key: bytes, body: bytes) -> bytes:
    """The bytes of header and body; `key` is cut to 127 bytes."""
    rest = _REST.pack(google_crc32c.value(body), len(body), record_id, value, clock_s, key)
    return _PREFIX.pack(_MAGIC, google_crc32c.value(rest)) + rest + body


def decode_header(data: bytes) -> Header | None:
    """The header at the start of `data`; None when there is none or its checksum is wrong."""
    if len(data) < HEADER_BYTES:
        return None
    magic, crc = _PREFIX.unpack_from(data)
    rest = data[_PREFIX.size : HEADER_BYTES]
    if magic != _MAGIC or crc != google_crc32c.value(rest):
        return None
    header = Header(*_REST.unpack(rest))
    is_possible = (
        header.record_id < _MAX_ID and abs(header.clock_s) < _MAX_CLOCK_S and math.isfinite(header.value)
    )
    return header if is_possible else None


def looks_like_header(data: bytes) -> bool:
    """Whether `data` starts like a header, intact or not, or is cut off before it could differ."""
    return data.startswith(_MAGIC) or (bool(data) and _MAGIC.startswith(data))


def was_header(data: bytes) -> bool:
    """Whether a record began here and was removed."""
    return data.startswith(_REMOVED)


def body_is_intact(header: Header, body: bytes) -> bool:
    """Whether `body` is the one that was written with this header."""
    return len(body) == header.body_bytes and google_crc32c.value(body) == header.body_crc
