"""Cuts a stream of bytes into pictures: raw pixels of a known size, or JPEGs one after the other."""

from typing import Protocol

import cv2
import numpy as np

from spillover.common.errors import InvalidInputError, SourceError, TooLargeError
from spillover.common.jpeg import read_header
from spillover.common.types import Image
from spillover.edge.camera.source import UnreadablePictureError

_CHUNK_BYTES = 1 << 16
MAX_JPEG_BYTES = 32 * 1024 * 1024
MAX_JPEG_PIXELS = 40_000_000
"""A few bytes can claim a thousand times as many, which would take all memory of a small device."""
_START, _END = b"\xff\xd8", b"\xff\xd9"
_SCAN = 0xDA
"""The marker behind which a JPEG's pixels begin; what stands before it has a stated length."""
_EMPTY_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
_FILL = 0xFF
_TOO_MUCH_FILL = bytes([_FILL]) * 256
"""Before a marker there may be any number of fill bytes; where there are so many, nobody wrote a JPEG."""


class Cutter(Protocol):
    """Takes bytes as they come, gives pictures."""

    def room(self) -> memoryview:
        """Where the next bytes are to be written."""
        ...

    def wrote(self, count: int) -> None:
        """So many bytes were written there."""
        ...

    def next(self) -> Image | None:
        """The next picture (H, W, 3) BGR, if all of it is there.

        Raises:
            UnreadablePictureError: it is damaged; go on.
            SourceError: this is no stream of such pictures.
        """
        ...


class RawPictures:
    """Pictures of `width` x `height` BGR pixels without anything between them."""

    def __init__(self, width: int, height: int) -> None:
        self._shape = height, width, 3
        self._start()

    def room(self) -> memoryview:
        """The rest of the picture."""
        return self._pixels.data[self._got :]

    def wrote(self, count: int) -> None:
        """So many bytes were written there."""
        self._got += count

    def next(self) -> Image | None:
        """The picture, once it is complete."""
        if self._got < self._pixels.size:
            return None
        picture = self._pixels.reshape(self._shape)
        self._start()
        return picture

    def _start(self) -> None:
        self._pixels, self._got = np.empty(np.prod(self._shape), np.uint8), 0


class YuvPictures:
    """Pictures of `width` x `height` pixels in YUV 4:2:0, planes one after the other (I420); both even."""

    def __init__(self, width: int, height: int) -> None:
        self._planes = np.empty((height * 3 // 2, width), np.uint8)
        self._got = 0

    def room(self) -> memoryview:
        """The rest of the picture."""
        return self._planes.reshape(-1).data[self._got :]

    def wrote(self, count: int) -> None:
        """So many bytes were written there."""
        self._got += count

    def next(self) -> Image | None:
        """The picture, once it is complete."""
        if self._got < self._planes.size:
            return None
        self._got = 0
        return cv2.cvtColor(self._planes, cv2.COLOR_YUV2BGR_I420).astype(np.uint8, copy=False)


class JpegPictures:
    """JPEGs of any size; bytes between them are passed over."""

    def __init__(self) -> None:
        self._chunk = memoryview(bytearray(_CHUNK_BYTES))
        self._bytes = bytearray()
        self._begin()

    def room(self) -> memoryview:
        """Room for a piece."""
        return self._chunk

    def wrote(self, count: int) -> None:
        """So many bytes were written there."""
        self._bytes += self._chunk[:count]

    def next(self) -> Image | None:
        """The oldest whole picture."""
        start = self._bytes.find(_START)
        if start < 0:
            del self._bytes[:-1]  # the last byte may be the first half of a start
            return None
        if start:
            del self._bytes[:start]
        if not (end := self._end()):
            if len(self._bytes) > MAX_JPEG_BYTES:
                raise SourceError(f"camera.source: no JPEG ends within {MAX_JPEG_BYTES} bytes")
            return None
        jpeg = bytes(self._bytes[:end])
        del self._bytes[:end]
        self._begin()
        _check_size(jpeg)
        try:
            picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise UnreadablePictureError(f"camera.source: {error}") from error
        if picture is None:
            raise UnreadablePictureError("camera.source: a damaged JPEG")
        return picture.astype(np.uint8, copy=False)

    def _begin(self) -> None:
        """Look for another picture."""
        self._segment = len(_START)
        """Up to here the picture's segments are whole."""
        self._looked = 0
        """Up to here there is no end of the picture; 0: where its pixels begin is not known."""

    def _end(self) -> int:
        """Where the first picture ends; 0 while that is not known.

        A marker of the end inside of a segment, as of a thumbnail, is none; behind the start of the pixels
        there is no other.
        """
        if not self._looked:
            self._looked = self._scan_start()
        if not self._looked:
            return 0
        found = self._bytes.find(_END, self._looked)
        self._looked = max(self._looked, len(self._bytes) - 1)
        return found + 2 if found >= 0 else 0

    def _scan_start(self) -> int:
        """Where the pixels of the first picture begin, or the first byte that belongs to no segment; or 0."""
        at = self._segment
        while at + 4 <= len(self._bytes):
            if self._bytes[at] != 0xFF:
                return at
            marker = self._bytes[at + 1]
            if marker in {_SCAN, _END[1]} or self._bytes.startswith(_TOO_MUCH_FILL, at):
                return at
            if marker == _FILL:
                at += 1
            elif marker in _EMPTY_MARKERS:
                at += 2
            else:
                at += 2 + int.from_bytes(self._bytes[at + 2 : at + 4])
        self._segment = at
        return 0


def _check_size(jpeg: bytes) -> None:
    """Raises UnreadablePictureError where the header claims too much."""
    try:
        read_header(jpeg).check(MAX_JPEG_PIXELS)
    except TooLargeError as error:
        raise UnreadablePictureError(f"camera.source: {error}") from error
    except InvalidInputError:
        pass  # cameras write bytes between segments, which libjpeg passes over
