"""What lost calls cost a stream of video: the daemon's sender, the server's stream, calls lost between.

A lost call is lost on its way there or on its way back, at equal chances; the edge hears nothing of it. No
pixel is judged here but by the digest, which the server checks.
"""

import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spillover.cloud.serving.streams.losses import LostError
from spillover.cloud.serving.streams.video import VideoStream
from spillover.common.types import Image
from spillover.common.wire.conversion import Video
from spillover.edge.payload.streams import KeyCause
from spillover.edge.payload.types import EncodedVideo
from spillover.edge.payload.video import VideoStreams, shrink
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.pairs.video.streamed import VideoForm
from spillover.lab.terminal import Progress

FORM = VideoForm(28)
LOST = (0.0, 0.01, 0.05, 0.2)
SETUPS = ((8, 0.05), (1, 0.05), (1, 0.25))
"""One of so many frames is sent, and answers come so many seconds later."""
_FRAMES, _CALLS = 400, 800
"""Of the clip, and in all runs of a row together."""


@dataclass(frozen=True, slots=True)
class LossRow:
    """One share of lost calls."""

    every: int
    late_s: float
    lost: float
    calls: int
    keys: float
    """Of a hundred calls."""
    bytes_a_call: float
    more_bytes: float
    """Share beyond what the same calls take when none is lost."""
    refused: int
    """Calls that the server could not decode for want of a reference."""


def loss_rows(clip: Clip, progress: Progress) -> list[LossRow]:
    """Send the first frames of the clip over and over, each time with other losses."""
    images = [shrink(image, FORM.longest_side)[0] for image in itertools.islice(clip.frames(), _FRAMES)]
    times_s = clip.times_s[: len(images)].tolist()
    rows = []
    for every, late_s in progress.track(SETUPS, "lost calls"):
        frames = list(zip(times_s[::every], images[::every], strict=True))
        none = 0.0
        for lost in LOST:
            repeats = max(1, _CALLS // len(frames)) if lost else 1
            runs = [Run(late_s, lost, random.Random(seed)) for seed in range(repeats)]  # noqa: S311 - losses
            for run in runs:
                run.play(frames)
            rows.append(_row(every, late_s, lost, runs, none))
            none = none or rows[-1].bytes_a_call
    return rows


def _row(every: int, late_s: float, lost: float, runs: Sequence["Run"], none: float) -> LossRow:
    calls = sum(len(run.sizes) for run in runs)
    bytes_a_call = float(np.mean([size for run in runs for size in run.sizes]))
    return LossRow(
        every=every,
        late_s=late_s,
        lost=lost,
        calls=calls,
        keys=100 * sum(run.keys for run in runs) / calls,
        bytes_a_call=bytes_a_call,
        more_bytes=bytes_a_call / none - 1 if none else 0.0,
        refused=sum(run.refused for run in runs),
    )


class Run:
    """One stream from its first frame on; an observer of its keys."""

    def __init__(self, late_s: float, lost: float, chance: random.Random) -> None:
        self.sizes: list[int] = []
        """Bytes of every call, lost ones too."""
        self.keys = 0
        self.refused = 0
        self._late_s = late_s
        self._lost = lost
        self._chance = chance
        self._now_s = 0.0
        self._edge = VideoStreams(FORM.config, 1, self, lambda: self._now_s, chance.random)
        self._server = VideoStream()
        self._coming: list[tuple[float, int, EncodedVideo]] = []

    def stream_key(self, kind: str, cause: KeyCause) -> None:
        """Count it."""
        del kind, cause
        self.keys += 1

    def stream_failed(self, kind: str) -> None:
        """There is none: every picture can be coded."""
        raise AssertionError(f"{kind} cannot be coded")

    def play(self, frames: Sequence[tuple[float, Image]]) -> None:
        """Send each at its time."""
        for at_s, image in frames:
            while self._coming and self._coming[0][0] <= at_s:
                self._edge.acknowledged(heapq.heappop(self._coming)[2])
            self._now_s = at_s
            if not self._call(image):
                self._call(image)  # once more, as the daemon does

    def _call(self, image: Image) -> bool:
        """Send one payload; false where the server's answer was that it lacks the reference."""
        video = self._edge.encode("camera", image)
        if video is None:
            return True
        self.sizes.append(len(video.data))
        lost = self._chance.random() < self._lost
        if lost and self._chance.random() < 0.5:
            return True
        try:
            self._server.decode(Video(video.position, video.packets, video.width, video.height))
        except LostError:
            self.refused += 1
            if not lost:
                self._edge.lost(video)
            return lost
        if not lost:
            heapq.heappush(self._coming, (self._now_s + self._late_s, len(self.sizes), video))
        return True
