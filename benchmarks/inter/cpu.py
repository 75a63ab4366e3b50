"""CPU time of a frame on either side, as JPEG and as video, in turns, so that all see the same machine."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from benchmarks.inter.payloads import SIDE
from spillover.common.model.manifest import Manifest, open_model_folder
from spillover.common.model.preprocess import preprocess, preprocess_jpeg
from spillover.common.types import Image
from spillover.common.video.h264 import Decoder
from spillover.common.video.planes import digest_of_planes, picture_of
from spillover.edge.config import PictureVariant
from spillover.edge.payload.encoder import encode_variant
from spillover.edge.payload.video import Codec, shrink
from spillover.lab.pairs.video.answers import MAX_PIXELS
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.pairs.video.evaluation import FULL
from spillover.lab.terminal import Progress

T = TypeVar("T")

FRAMES = 160
_WARM_UP = 10
SMALL = PictureVariant(70, SIDE)
CRF = 28
_LARGE = (1280, 960)

EDGE_JPEG, EDGE_SMALL, EDGE_VIDEO = (
    "JPEG q85 of the frame",
    f"JPEG q70, {SIDE} px",
    f"video crf 28, {SIDE} px",
)
SERVER_JPEG, SERVER_SMALL, SERVER_VIDEO = EDGE_JPEG, EDGE_SMALL, EDGE_VIDEO
SERVER_SCALED = "JPEG q85 of 1280x960, scaled while it is decoded"


@dataclass(frozen=True, slots=True)
class CpuRow:
    """Milliseconds of CPU a frame: the median, and the quarters of the frames below and above it."""

    side: str
    form: str
    median_ms: float
    lower_ms: float
    upper_ms: float


def cpu_rows(cloud: Path, clip: Clip, progress: Progress) -> list[CpuRow]:
    """Encode and decode the first frames of a clip in each form.

    The edge's time is that from the frame to the payload; for video it decodes its own packet for the digest.
    The server's is that from the payload to the network's input.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return _measure(open_model_folder(cloud).manifest, clip, progress)
    finally:
        cv2.setNumThreads(threads)


def _measure(manifest: Manifest, clip: Clip, progress: Progress) -> list[CpuRow]:
    taken: dict[tuple[str, str], list[float]] = {}
    video: _Video | None = None
    frames = itertools.islice(clip.frames(), FRAMES)
    for number, image in enumerate(progress.track(frames, "CPU time, in turns")):
        video = video or _Video(image)
        jobs = _jobs(image, manifest, video)
        if number >= _WARM_UP:
            for key, cpu_s in jobs.items():
                taken.setdefault(key, []).append(cpu_s)
    rows = []
    for (side, form), times_s in taken.items():
        lower, middle, upper = 1e3 * np.quantile(times_s, (0.25, 0.5, 0.75))
        rows.append(CpuRow(side, form, float(middle), float(lower), float(upper)))
    return rows


class _Video:
    """Both ends of one stream."""

    def __init__(self, image: Image) -> None:
        height, width = shrink(image, SIDE)[0].shape[:2]
        self.edges, self.servers = Codec(width, height, CRF), Decoder(width, height)


def _jobs(image: Image, manifest: Manifest, video: _Video) -> dict[tuple[str, str], float]:
    """CPU seconds of one frame by side and form."""
    large = cv2.resize(image, _LARGE, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    scaled = encode_variant(large, FULL)

    def on_edge() -> bytes:
        packet, planes = video.edges.code(shrink(image, SIDE)[0], key=False)
        digest_of_planes(planes)
        return packet

    def on_server() -> None:
        planes = video.servers.decode(packet)
        digest_of_planes(planes)
        preprocess(picture_of(planes), manifest.own_input)

    full, full_s = _timed(lambda: encode_variant(image, FULL))
    small, small_s = _timed(lambda: encode_variant(image, SMALL))
    packet, video_s = _timed(on_edge)
    return {
        ("edge", EDGE_JPEG): full_s,
        ("edge", EDGE_SMALL): small_s,
        ("edge", EDGE_VIDEO): video_s,
        ("server", SERVER_JPEG): _timed(lambda: preprocess_jpeg(full.data, MAX_PIXELS, manifest))[1],
        ("server", SERVER_SMALL): _timed(lambda: preprocess_jpeg(small.data, MAX_PIXELS, manifest))[1],
        ("server", SERVER_SCALED): _timed(lambda: preprocess_jpeg(scaled.data, MAX_PIXELS, manifest))[1],
        ("server", SERVER_VIDEO): _timed(on_server)[1],
    }


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the CPU seconds of all threads that it took."""
    began_s = time.process_time()
    done = work()
    return done, time.process_time() - began_s
