"""What is read of a JPEG before it is decoded: its sides, its scans, and what decoding it takes."""

import contextlib
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PilImage

from spillover.common.errors import InvalidInputError, TooLargeError
from spillover.common.images import encode_jpeg
from spillover.common.jpeg import MOST_SCANS, count_scans, decode_bytes, read_header
from tests.support.slow_jpeg import SIDE, slow_jpeg

SOI, EOI, SOS = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
EMPTY_COMMENT = b"\xff\xfe\x00\x02"


def noise(width: int = 64, height: int = 48) -> np.ndarray:
    """Pixels that make every kind of code."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def pil_jpeg(image: np.ndarray, **options: object) -> bytes:
    """A JPEG as Pillow writes it."""
    buffer = io.BytesIO()
    PilImage.fromarray(image).save(buffer, "JPEG", **options)
    return buffer.getvalue()


JPEG = encode_jpeg(noise(), quality=90).data
HEADER = read_header(JPEG)


def segment(marker: int, body: bytes) -> bytes:
    """One marker with its body."""
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def scans_of(data: bytes) -> int:
    """What the walk counts."""
    return count_scans(data, read_header(data))


def test_scans_are_counted() -> None:
    """One of a baseline picture, ten of a progressive one as libjpeg writes it, as many as there are."""
    assert scans_of(JPEG) == 1
    progressive = pil_jpeg(noise(), progressive=True)
    assert scans_of(progressive) == progressive.count(SOS) == 10
    assert scans_of(slow_jpeg(MOST_SCANS - 1)) == MOST_SCANS


@pytest.mark.parametrize("scans", [MOST_SCANS, 8000])
def test_too_many_scans_are_refused(scans: int) -> None:
    """A few hundred kilobytes that would take a decoder minutes."""
    with pytest.raises(TooLargeError, match="scans"):
        scans_of(slow_jpeg(scans))


@pytest.mark.parametrize("fill", [b"", b"\xff" * 100])
def test_fill_bytes_before_a_marker_hide_nothing(fill: bytes) -> None:
    """Each marker may be preceded by fill bytes, in the header and between scans."""
    data = slow_jpeg(MOST_SCANS).replace(SOS, fill + SOS)
    with pytest.raises(TooLargeError, match="scans"):
        scans_of(SOI + fill + EMPTY_COMMENT + data[2:])


@pytest.mark.parametrize("marker", [0x02, 0xBF, 0xD8])
def test_a_marker_that_no_decoder_takes_hides_nothing(marker: int) -> None:
    """A decoder that looks for a restart marker skips a reserved one, not the bytes that seem its body."""
    data = slow_jpeg(1)
    at = data.index(SOS, data.index(SOS) + 1)
    hidden = segment(marker, (data[at : data.rindex(EOI)] * 200)[:60_000])
    with pytest.raises(InvalidInputError, match="damaged"):
        scans_of(data[:at] + hidden + data[at:])


def test_an_end_marker_in_a_comment_is_not_the_end() -> None:
    """The walk goes over segments as a decoder does, so that scans cannot hide behind a false end."""
    data = slow_jpeg(MOST_SCANS)
    at = data.index(SOS, data.index(SOS) + 1)
    with pytest.raises(TooLargeError, match="scans"):
        scans_of(data[:at] + segment(0xFE, EOI) + data[at:])


def test_what_follows_the_picture_is_not_looked_at() -> None:
    """Phones append a video or a second picture, in which scans are not this picture's."""
    assert scans_of(JPEG + SOS * 1000) == 1


def test_scans_of_a_thumbnail_are_not_the_pictures() -> None:
    """It lies in a segment of the header, which is stepped over."""
    thumbnail = pil_jpeg(noise(16, 16), progressive=True)
    assert scans_of(SOI + segment(0xE1, thumbnail) + JPEG[2:]) == 1


@pytest.mark.parametrize(
    "padding",
    [
        pytest.param(EMPTY_COMMENT * 4_000_000, id="empty comments"),
        pytest.param(b"\xff" * 16_000_000, id="fill bytes"),
        pytest.param((b"\xff" * 200 + EMPTY_COMMENT) * 50_000, id="both"),
        pytest.param(b"\xff\x01" * 8_000_000, id="markers without a body"),
    ],
)
def test_the_walk_to_the_first_scan_is_bounded(padding: bytes) -> None:
    """Millions of markers that say nothing are the sender's fault, whatever comes after them."""
    with pytest.raises(InvalidInputError, match=r"segments|damaged"):
        read_header(JPEG[:2] + padding + JPEG[2:])


@pytest.mark.parametrize("padding", [EMPTY_COMMENT * 4_000_000, b"\xff\x01" * 8_000_000])
def test_the_walk_between_scans_is_bounded(padding: bytes) -> None:
    """As in the header; coded data is searched and not walked."""
    with pytest.raises(InvalidInputError, match="segments"):
        scans_of(JPEG[: HEADER.scans_at] + padding + JPEG[HEADER.scans_at :])


@given(st.binary(max_size=300), st.integers(0, 300))
def test_no_bytes_raise_anything_but_the_senders_errors(noise: bytes, kept: int) -> None:
    """Whatever follows a good beginning, the walk ends, with a number of scans or InvalidInputError."""
    with contextlib.suppress(InvalidInputError):
        assert 1 <= scans_of(JPEG[: HEADER.scans_at + kept] + noise) <= MOST_SCANS


@pytest.mark.parametrize(("progressive", "buffered"), [(False, False), (True, True)])
def test_the_header_says_what_decoding_takes(progressive: bool, buffered: bool) -> None:
    """Sides, components, and whether coefficients of the whole picture are kept."""
    header = read_header(pil_jpeg(noise(50, 30), progressive=progressive))
    assert (header.width, header.height, header.components) == (50, 30, 3)
    assert header.is_buffered == buffered
    assert not header.may_turn
    assert header.reduced(4) == (13, 8)


_PEAK = """
import sys
from spillover.common.images import decode_reduced
from spillover.common.jpeg import read_header

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

small, data = (open(path, "rb").read() for path in sys.argv[1:3])
decode_reduced(small, read_header(small), 1)
before = peak()
decode_reduced(data, read_header(data), int(sys.argv[3]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("reduction", [1, 8])
@pytest.mark.parametrize("kind", ["baseline", "progressive", "turned", "bomb"])
def test_decoding_takes_no_more_memory_than_it_says(tmp_path, kind: str, reduction: int) -> None:
    """The peak of a process that decodes 12 million pixels or more, but for a few rows."""
    exif = PilImage.Exif()
    exif[0x0112] = 6
    image = noise(4096, 3072)
    data = {
        "baseline": lambda: pil_jpeg(image, subsampling=0),
        "progressive": lambda: pil_jpeg(image, progressive=True, subsampling=0),
        "turned": lambda: pil_jpeg(image, exif=exif.tobytes()),
        "bomb": lambda: slow_jpeg(2),
    }[kind]()
    (tmp_path / "small.jpg").write_bytes(JPEG)
    (tmp_path / "large.jpg").write_bytes(data)
    done = subprocess.run(
        [
            sys.executable, "-c", _PEAK, str(tmp_path / "small.jpg"), str(tmp_path / "large.jpg"),
            str(reduction),
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    stated = decode_bytes(read_header(data), reduction)
    assert int(re.sub(r"\s", "", done.stdout)) <= stated + len(data) + 4_000_000
    assert (kind == "bomb") == (read_header(data).width == SIDE)
