"""What streams of video cost a server: processor time beside JPEGs of the same scene, and memory."""

import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from spillover.cloud.serving.streams.video import RING, VideoStream
from spillover.common.allocator import keep_picture_memory
from spillover.common.coding import StreamPosition
from spillover.common.images import decode_reduced, encode_jpeg
from spillover.common.model.manifest import Input, Manifest, Output, Resize
from spillover.common.model.preprocess import checked_header, preprocess, reduction_for
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Image
from spillover.common.video.planes import digest_of_planes, picture_of
from spillover.common.wire.conversion import Video
from spillover.edge.payload.video import Codec
from spillover.lab.pairs.video.clip import open_clip

SIDE = 416
_STEP, _CRF = 8, 28
_MAX_PIXELS = 25_000_000
_MANIFEST = Manifest(
    name="costs-nothing",
    version="1",
    task=DETECTION.name,
    output=Output(decoder="yolox"),
    input=Input(height=SIDE, width=SIDE, resize=Resize.LETTERBOX),
)
SIZES = ((64, 48), (SIDE, 312), (640, 480), (1280, 720), (1920, 1080))
_HELD = {64 * 48: 200, SIDE * 312: 60, 640 * 480: 30, 1280 * 720: 8, 1920 * 1080: 4}
"""How many streams are held at once, by pixels."""


@dataclass(frozen=True, slots=True)
class CostRow:
    """One form of the same frames: bytes, and milliseconds of processor time to pixels, and to the input."""

    form: str
    payload_bytes: float
    pixels_ms: float
    input_ms: float


def costs(clip: Path, frames: int) -> list[CostRow]:
    """Every eighth frame of a clip in each form, in turns, so that what else runs disturbs all alike.

    Raises:
        SourceError: the clip cannot be read.
    """
    keep_picture_memory()  # as the server does
    pictures = list(itertools.islice(open_clip(clip).frames(), 0, frames * _STEP, _STEP))
    height, width = pictures[0].shape[:2]
    small = _sides(width, height, SIDE)
    videos = _payloads([_scaled(one, *small) for one in pictures])
    stream = VideoStream()
    stream.decode(videos[0])
    forms = {f"video {small[0]}x{small[1]}, a packet a call": _videos(stream, videos[1:])}
    for name, sides, quality in (
        (f"JPEG {2 * small[0]}x{2 * small[1]}, quality 85, DCT-scaled", (2 * small[0], 2 * small[1]), 85),
        (f"JPEG {small[0]}x{small[1]}, quality 70", small, 70),
        (f"JPEG {width}x{height}, quality 85", (width, height), 85),
    ):
        forms[name] = _jpegs(encode_jpeg(_scaled(one, *sides), quality).data for one in pictures[1:])
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for number in range(len(pictures) - 1):
        for name, calls in forms.items():
            taken[name].append(_timed(calls[number].decode))
    return [
        CostRow(
            name,
            float(np.mean([call.payload_bytes for call in calls])),
            1e3 * median(pixels_s for pixels_s, _ in taken[name]),
            1e3 * median(input_s for _, input_s in taken[name]),
        )
        for name, calls in forms.items()
    ]


@dataclass(frozen=True, slots=True)
class _Call:
    """One payload, and what decodes it."""

    payload_bytes: int
    decode: Callable[[], Image]


def _videos(stream: VideoStream, videos: Sequence[Video]) -> list[_Call]:
    def decoded(video: Video) -> Image:
        return picture_of(stream.decode(video).planes)

    return [_Call(len(video.packets[-1]), partial(decoded, video)) for video in videos]


def _jpegs(encoded: Iterable[bytes]) -> list[_Call]:
    def decoded(data: bytes) -> Image:
        header = checked_header(data, _MAX_PIXELS)
        return decode_reduced(data, header, reduction_for(header, _MANIFEST)).image

    return [_Call(len(data), partial(decoded, data)) for data in encoded]


def _timed(decode: Callable[[], Image]) -> tuple[float, float]:
    began_s = time.thread_time()
    image = decode()
    decoded_s = time.thread_time()
    preprocess(image, _MANIFEST.own_input)
    return decoded_s - began_s, time.thread_time() - began_s


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """Many streams of one size in a process of their own: megabytes each, as measured and as charged."""

    sides: tuple[int, int]
    held: int
    soft_mb: float
    longest_mb: float
    charged_mb: float


def memory(sides: tuple[int, int]) -> MemoryRow:
    """Streams of soft pictures, and of the longest packets that an encoder makes: of noise, lossless."""
    held = _HELD[sides[0] * sides[1]]
    charged_mb = VideoStream.bytes_of(*sides) / 1e6
    return MemoryRow(sides, held, _alone(sides, held, _CRF), _alone(sides, held, 0), charged_mb)


def _alone(sides: tuple[int, int], held: int, crf: int) -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_each_mb, sides, held, crf).result()


def _each_mb(sides: tuple[int, int], held: int, crf: int) -> float:
    random = np.random.default_rng(1)
    noise = random.integers(0, 256, (RING + 4, sides[1], sides[0], 3), np.uint8)
    pictures = [one if not crf else cv2.GaussianBlur(one, (0, 0), 3) for one in noise]
    videos = _payloads([one.astype(np.uint8, copy=False) for one in pictures], crf)
    _hold(videos, 2)  # what is loaded once is no stream's
    before = _rss_bytes()
    streams = _hold(videos, held)
    each_mb = (_rss_bytes() - before) / held / 1e6
    del streams
    return each_mb


def _hold(videos: Sequence[Video], count: int) -> list[VideoStream]:
    streams = [VideoStream() for _ in range(count)]
    for stream in streams:
        for video in videos:
            stream.decode(video)
    return streams


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def _payloads(pictures: Sequence[Image], crf: int = _CRF) -> list[Video]:
    """A key and what follows, a packet a payload."""
    height, width = pictures[0].shape[:2]
    codec, made = Codec(width, height, crf), []
    for number, picture in enumerate(pictures, 1):
        packet, planes = codec.code(picture, key=number == 1)
        position = StreamPosition(b"a stream", number, number - 1, digest_of_planes(planes))
        made.append(Video(position, (packet,), width, height))
    return made


def _sides(width: int, height: int, longest: int) -> tuple[int, int]:
    scale = longest / max(width, height)
    return 2 * round(width * scale / 2), 2 * round(height * scale / 2)


def _scaled(image: Image, width: int, height: int) -> Image:
    filter_ = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=filter_).astype(np.uint8, copy=False)
