"""Bytes of a sent frame and F1 of its answer, for each form and each number of frames between two sends."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spillover.common.tasks.detection import DETECTION
from spillover.edge.config import PictureVariant
from spillover.edge.link.byte_budget import wire_bytes
from spillover.lab.pairs.video.answers import Answers, answers_of
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.pairs.video.evaluation import FULL
from spillover.lab.pairs.video.streamed import Plan, VideoForm, answers_to_video
from spillover.lab.pairs.video.streaming import COUNTED_FROM
from spillover.lab.terminal import Progress

EVERY = (1, 3, 8, 30)
"""One of so many frames is sent."""
SIDE = 416
"""Pixels that YOLOX-nano sees."""
PICTURES = (FULL, *(PictureVariant(quality, SIDE) for quality in (85, 70, 40)))
VIDEOS = tuple(VideoForm(crf, SIDE) for crf in (None, 16, 18, 23, 28, 33))
"""The first is what the daemon does by itself."""


@dataclass(frozen=True, slots=True)
class Part:
    """Figures of consecutive frames that were sent; NaN where there is none."""

    frames: int
    mean_bytes: float
    """Of a payload, the stream's first one included."""
    f1: float


@dataclass(frozen=True, slots=True)
class Row:
    """One form, sent with so many frames from one to the next."""

    form: str
    every: int
    key_bytes: int
    """Of the first payload."""
    later_bytes: float
    """Mean of those after it."""
    charged_bytes: float
    """Mean of what a byte budget is charged for a payload."""
    whole: Part
    first_half: Part
    second_half: Part


def payload_rows(cloud: Path, clip: Clip, progress: Progress, threads: int) -> list[Row]:
    """Every form at every distance on one clip, judged by the cloud's answers to the uncompressed frames."""
    truth = answers_of(cloud, clip, None, progress, threads)
    rows = []
    for form, every, answers in _sent(cloud, clip, progress, threads):
        rows.append(row_of(form, every, answers, f1_to(truth, answers)))
    return rows


def _sent(cloud: Path, clip: Clip, progress: Progress, threads: int) -> Iterator[tuple[str, int, Answers]]:
    """Each form, the distance, and the answers, of which those with bytes were sent."""
    for picture in PICTURES:
        answers = answers_of(cloud, clip, picture, progress, threads)
        for every in EVERY:
            yield picture.name, every, _thinned(answers, every)
    full_bytes = answers_of(cloud, clip, FULL, progress, threads).payload_bytes
    plans = {(form, every): Plan(form, 1 / every) for form in VIDEOS for every in EVERY}
    streamed = answers_to_video(cloud, clip, list(plans.values()), full_bytes, progress, threads)
    for (form, every), plan in plans.items():
        yield form.name, every, streamed[plan]


def _thinned(answers: Answers, every: int) -> Answers:
    """As if only each `every`th frame had been sent."""
    kept = np.zeros_like(answers.payload_bytes)
    kept[::every] = answers.payload_bytes[::every]
    return Answers(answers.boxes, kept)


def f1_to(truth: Answers, answers: Answers) -> npt.NDArray[np.float64]:
    """F1 of each frame at IoU 0.5, boxes from .3 up, (N,)."""
    return np.array(
        [
            DETECTION.agreement(found, true, COUNTED_FROM)
            for found, true in zip(answers.boxes, truth.boxes, strict=True)
        ]
    )


def row_of(form: str, every: int, answers: Answers, f1: npt.NDArray[np.float64]) -> Row:
    """The figures of the frames that took bytes."""
    sizes = answers.payload_bytes
    sent = np.flatnonzero(sizes)
    middle = len(sizes) // 2

    def part(numbers: npt.NDArray[np.int64]) -> Part:
        if not len(numbers):
            return Part(0, float("nan"), float("nan"))
        return Part(len(numbers), float(sizes[numbers].mean()), float(f1[numbers].mean()))

    return Row(
        form=form,
        every=every,
        key_bytes=int(sizes[sent[0]]),
        later_bytes=float(sizes[sent[1:]].mean()) if len(sent) > 1 else float("nan"),
        charged_bytes=_mean(wire_bytes(float(size)) for size in sizes[sent]),
        whole=part(sent),
        first_half=part(sent[sent < middle]),
        second_half=part(sent[sent >= middle]),
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
