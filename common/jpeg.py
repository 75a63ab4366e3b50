"""Reads what a JPEG says of itself, without decoding a pixel: its sides, its scans, and what decoding takes.

The walk sees what libjpeg sees, and is bounded: by markers, by fill bytes before a marker, and by scans.
It stops at the picture's own end marker; what cameras append (a video, a second picture) is not looked at.
"""

import math
import re
import struct
from dataclasses import dataclass

from spillover.common.errors import InvalidInputError, TooLargeError

# Markers of ITU-T T.81, table B.1. SOFn are all from C0 to CF but DHT (C4), JPG (C8) and DAC (CC).
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SOI, _EOI, _SOS, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
_LEAST_MARKER = 0xC0
"""Below it are reserved codes, which libjpeg refuses (01 excepted)."""

MOST_SCANS = 100
"""libjpeg-turbo's own advice against pictures made to take minutes; encoders write some ten."""

MOST_SEGMENTS = 2048
"""More than cameras write: 255 of a colour profile, 255 of extended metadata, tables before each scan."""

_MARKER = re.compile(rb"\xff{1,256}([^\x00\xff])", re.DOTALL)
"""A marker with the fill bytes before it."""

_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""The next marker in coded data, where FF 00 is a byte of data and D0 to D7 only part it."""

_STEP = 1 << 18
"""Bytes that are searched at once: a search keeps the interpreter lock."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """A JPEG up to its first scan. `width` and `height` are of the picture as it is stored."""

    width: int
    height: int
    components: int
    is_buffered: bool
    """Whether several scans make up the picture, so that a decoder holds all its coefficients."""
    may_turn: bool
    """Whether there may be EXIF data, and with it an orientation in which the picture is to be shown."""
    scans_at: int
    """Position of the first scan's data in the file."""

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def check(self, max_pixels: int) -> None:
        """Raise TooLargeError when the picture has more than `max_pixels`."""
        if self.pixels > max_pixels:
            raise TooLargeError(
                f"picture is {self.width}x{self.height} pixels; the limit is {max_pixels} pixels in all"
            )

    def reduced(self, reduction: int) -> tuple[int, int]:
        """Width and height when decoded at 1/`reduction` of the size, as libjpeg rounds them."""
        return -(-self.width // reduction), -(-self.height // reduction)


def decode_bytes(header: JpegHeader, reduction: int = 1) -> int:
    """The most memory that one decoding takes, in bytes, at 1/`reduction` of the size.

    Three bytes a pixel of the result, and beside it either a second one (OpenCV hands out a copy, and turns
    into another) or, for several scans, two bytes for each coefficient of the whole picture, however small
    the result is. A few rows and tables come on top.
    """
    width, height = header.reduced(reduction)
    result = 3 * width * height
    padded = 256 * -(-header.width // 16) * -(-header.height // 16)
    return result + max(result, 2 * header.components * padded if header.is_buffered else 0)


def most_decode_bytes(max_pixels: int) -> int:
    """About the most that one decoding of so many pixels takes: four components, in several scans."""
    side = math.isqrt(max_pixels)
    return decode_bytes(JpegHeader(side, side, components=4, is_buffered=True, may_turn=False, scans_at=0))


def read_header(data: bytes) -> JpegHeader:
    """Walk to the first scan; takes microseconds, whatever is in the file.

    Raises:
        InvalidInputError: empty, not a JPEG, damaged, or cut short.
    """
    if not data:
        raise InvalidInputError("picture is empty: 0 bytes")
    if data[:2] != b"\xff\xd8":
        raise InvalidInputError(f"picture is not a JPEG: it begins with {data[:4].hex(' ')}")
    position, may_turn, frame = 2, False, (0, 0, 0, 0)
    for _ in range(MOST_SEGMENTS):
        marker, position = _marker(data, position)
        if marker in _STANDALONE:
            continue
        end = _end(data, position, marker)
        if marker == _SOS:
            return _header(frame, data[position + 2 : end], may_turn, end)
        if marker in _SOF:
            frame = _frame(marker, data[position + 2 : end])
        may_turn |= marker == _APP1
        position = end
    raise InvalidInputError(f"JPEG header has more than {MOST_SEGMENTS} segments")


def count_scans(data: bytes, header: JpegHeader) -> int:
    """How many scans a decoder is going to run through; each visits every pixel.

    Takes some milliseconds for 10 MB. The picture is known to be whole up to its end marker then.

    Raises:
        TooLargeError: more than `MOST_SCANS` scans.
        InvalidInputError: damaged, or cut short.
    """
    scans, position = 1, header.scans_at
    for _ in range(MOST_SEGMENTS):
        position = _next_in_scan(data, position)
        marker = data[position - 1]
        if marker == _EOI:
            return scans
        if marker in _STANDALONE:
            continue
        scans += marker == _SOS
        if scans > MOST_SCANS:
            raise TooLargeError(f"JPEG has more than {MOST_SCANS} scans")
        position = _end(data, position, marker)
    raise InvalidInputError(f"JPEG has more than {MOST_SEGMENTS} segments between its scans")


def _marker(data: bytes, position: int) -> tuple[int, int]:
    """The marker that must be at `position`, and the position after it."""
    found = _MARKER.match(data, position)
    if found:
        return found[1][0], found.end()
    if position >= len(data) - 1:
        raise _cut_short("scan", data)
    raise InvalidInputError(f"JPEG header is damaged at byte {position}")


def _next_in_scan(data: bytes, position: int) -> int:
    """The position after the next marker in or after coded data."""
    for start in range(position, len(data), _STEP):
        if found := _MARKER_IN_SCAN.search(data, start, start + _STEP + 1):
            return found.end()
    # A decoder fills the missing part with grey without an error; a wrong answer is worse than none.
    raise _cut_short("end marker", data)


def _end(data: bytes, position: int, marker: int) -> int:
    """Where the segment ends whose length is at `position`."""
    if marker < _LEAST_MARKER or marker in {_SOI, _EOI}:
        raise InvalidInputError(f"JPEG is damaged: marker {marker:02x} at byte {position - 2}")
    length = int.from_bytes(data[position : position + 2], "big")
    end = position + length
    if length < 2 or end > len(data):
        raise _cut_short("end of a segment", data)
    return end


def _frame(marker: int, body: bytes) -> tuple[int, int, int, int]:
    """Marker, width, height and components of a frame header."""
    if len(body) < 6:
        raise InvalidInputError(f"JPEG frame header has {len(body)} bytes")
    height, width, components = struct.unpack_from(">HHB", body, 1)
    if not width or not height or not components:
        raise InvalidInputError(f"JPEG header says {width}x{height} pixels, {components} components")
    return marker, width, height, components


def _header(frame: tuple[int, int, int, int], scan: bytes, may_turn: bool, scans_at: int) -> JpegHeader:
    marker, width, height, components = frame
    if not components:
        raise InvalidInputError("JPEG has a scan before any frame header")
    is_buffered = marker in _PROGRESSIVE or scan[:1] < bytes([components])
    return JpegHeader(width, height, components, is_buffered, may_turn, scans_at)


def _cut_short(what: str, data: bytes) -> InvalidInputError:
    return InvalidInputError(f"JPEG is cut short: no {what} in {len(data)} bytes")
