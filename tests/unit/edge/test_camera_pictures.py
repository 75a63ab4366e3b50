"""Pictures out of a stream of bytes, however it is cut into pieces."""

import contextlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.errors import SourceError
from spillover.edge.camera import pictures as module
from spillover.edge.camera.pictures import JpegPictures, RawPictures, YuvPictures
from spillover.edge.camera.source import UnreadablePictureError

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 255, (16, 24, 3), np.uint8) for _ in range(3)]
JPEGS = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in PICTURES]


class Watched(bytearray):
    """Bytes that count how often one is looked at."""

    looks = 0

    def __getitem__(self, at):
        """As ever."""
        self.looks += 1
        return super().__getitem__(at)


def with_thumbnail(jpeg):
    """A JPEG whose first segment holds another JPEG, as a camera's EXIF does."""
    segment = b"Exif\x00\x00" + JPEGS[0]
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def cut(cutter, data, pieces):
    """Feed `data` in pieces of these sizes (again and again); every picture."""
    found, at, turn = [], 0, 0
    while at < len(data):
        while (picture := cutter.next()) is not None:
            found.append(picture)
        piece = data[at : at + pieces[turn % len(pieces)]][: len(cutter.room())]
        cutter.room()[: len(piece)] = piece
        cutter.wrote(len(piece))
        at, turn = at + len(piece), turn + 1
    while (picture := cutter.next()) is not None:
        found.append(picture)
    return found


sizes = st.lists(st.integers(1, 700), min_size=1, max_size=5)


@given(sizes)
def test_raw_pictures_come_as_they_are(pieces):
    """Pixel by pixel, and each in memory of its own."""
    found = cut(RawPictures(24, 16), b"".join(picture.tobytes() for picture in PICTURES), pieces)
    assert len(found) == 3
    assert all(np.array_equal(one, other) for one, other in zip(found, PICTURES, strict=True))


@given(sizes)
def test_yuv_pictures_become_bgr(pieces):
    """As OpenCV converts them, none overwritten by the next."""
    planes = [cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420) for picture in PICTURES]
    found = cut(YuvPictures(24, 16), b"".join(one.tobytes() for one in planes), pieces)
    expected = [cv2.cvtColor(one, cv2.COLOR_YUV2BGR_I420) for one in planes]
    assert len(found) == 3
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@given(sizes, st.binary(max_size=40).filter(lambda noise: b"\xff" not in noise))
def test_jpegs_are_found_one_after_the_other(pieces, noise):
    """Whatever stands between them, with and without a JPEG inside of a JPEG."""
    stream = noise + JPEGS[0] + JPEGS[1] + noise + with_thumbnail(JPEGS[2]) + noise
    found = cut(JpegPictures(), stream, pieces)
    assert len(found) == 3
    for picture, jpeg in zip(found, JPEGS, strict=True):
        assert np.array_equal(picture, cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))


@given(st.binary(max_size=2000), sizes)
def test_noise_is_no_jpeg_and_no_trap(noise, pieces):
    """Any bytes give pictures or a damaged one; what is kept of them is bounded."""
    cutter = JpegPictures()
    with contextlib.suppress(UnreadablePictureError):
        cut(cutter, noise, pieces)
    assert len(cutter._bytes) <= len(noise)


def test_a_damaged_jpeg_costs_itself_alone():
    """The next one is found."""
    cutter = JpegPictures()
    with pytest.raises(UnreadablePictureError):
        cut(cutter, b"\xff\xd8\xff\xd9" + JPEGS[1], [100])
    cutter.room()[: len(JPEGS[1])] = JPEGS[1]
    cutter.wrote(len(JPEGS[1]))
    assert cutter.next() is not None


def test_a_picture_that_claims_more_pixels_than_any_camera_has_is_not_decoded():
    """Some hundred bytes with 30000 x 30000 in their header took 5 GB."""
    sides = JPEGS[0].index(b"\xff\xc0") + 5
    huge = JPEGS[0][:sides] + (30_000).to_bytes(2, "big") * 2 + JPEGS[0][sides + 4 :]
    with pytest.raises(UnreadablePictureError, match="30000x30000 pixels"):
        cut(JpegPictures(), huge, [100])


def test_bytes_that_are_no_picture_cost_no_time():
    """A start and then fill bytes alone, as of white pixels: each was looked at again with every piece."""
    cutter = JpegPictures()
    assert cut(cutter, b"\xff\xd8" + b"\xff" * 300_000, [700]) == []
    cutter._bytes = watched = Watched(cutter._bytes)
    assert cutter.next() is None
    assert watched.looks < 10


def test_segments_are_passed_over_once():
    """However many a picture has: each was walked through again with every piece."""
    cutter = JpegPictures()
    assert cut(cutter, b"\xff\xd8" + b"\xff\xe1\x00\x02" * 50_000, [700]) == []
    cutter._bytes = watched = Watched(cutter._bytes)
    assert cutter.next() is None
    assert watched.looks < 10


def test_a_picture_without_end_is_refused(monkeypatch):
    """It would take all memory."""
    monkeypatch.setattr(module, "MAX_JPEG_BYTES", 10_000)
    with pytest.raises(SourceError, match="no JPEG ends within 10000 bytes"):
        cut(JpegPictures(), JPEGS[0][:-2] + bytes(20_000), [1000])
