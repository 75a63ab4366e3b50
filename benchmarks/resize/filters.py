"""Answers and times with INTER_LINEAR_EXACT, as `preprocess` resizes, beside INTER_LINEAR."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from spillover.common.errors import ConfigError
from spillover.common.geometry import FrameTransform
from spillover.common.model.manifest import Interpolation, open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks import agreement
from spillover.common.types import Image, Prediction
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.pairs.evaluate.classes import judging
from spillover.lab.pairs.evaluate.mixture import accuracy_of
from spillover.lab.pairs.evaluate.predict import seeing_all
from spillover.lab.terminal import Progress

HALVES = ("even", "odd")


@dataclass(frozen=True, slots=True)
class FilterRow:
    """One half of the pictures: accuracy with both filters, how much the answers agree, milliseconds."""

    half: str
    exact: float
    linear: float
    agreement: float
    exact_ms: float
    """Median of `Model.predict`: preprocessing, network, decoding."""
    linear_ms: float
    added_ms: float
    """Median of the differences, picture by picture."""


def compare(folder: Path, data: LabelledSet, threads: int, progress: Progress) -> list[FilterRow]:
    """Answer each picture with either filter, in turn; boxes of any confidence count.

    Raises:
        ConfigError: the model does not resize linearly.
        ModelError: the model does not load.
        SourceError: a picture cannot be read, or the labels are not of the model's classes.
    """
    cv2.setNumThreads(1)
    opened = seeing_all(open_model_folder(folder))
    resize_filter = opened.manifest.own_input.interpolation
    if resize_filter is not Interpolation.LINEAR:
        raise ConfigError(f"{folder}: resizes with {resize_filter.value}, not linear")
    model = Model(opened, SessionConfig(threads=threads))
    data = judging(data, folder)
    halves = [range(start, len(data.pictures), 2) for start in (0, 1)]
    return [
        _row(half, model, data.part(numbers), progress) for half, numbers in zip(HALVES, halves, strict=True)
    ]


def _row(half: str, model: Model, data: LabelledSet, progress: Progress) -> FilterRow:
    answers: list[tuple[Prediction, Prediction]] = []
    times_ms: list[tuple[float, float]] = []
    for number, picture in enumerate(progress.track(data.pictures, half)):
        image = picture.image()
        size = _size_inside(model, image)
        runs = [partial(_with_exact, model, image), partial(_with_linear, model, image, size)]
        order = (0, 1) if number % 2 else (1, 0)  # who comes second finds the picture in the cache
        done = {which: _timed(runs[which]) for which in order}
        (exact, exact_ms), (linear, linear_ms) = done[0], done[1]
        answers.append((exact, linear))
        times_ms.append((exact_ms, linear_ms))
    exact_answers, linear_answers = zip(*answers, strict=True)
    return FilterRow(
        half=half,
        exact=accuracy_of(data.truth, exact_answers),
        linear=accuracy_of(data.truth, linear_answers),
        agreement=float(np.mean([agreement(*pair) for pair in answers])),
        exact_ms=statistics.median(exact for exact, _ in times_ms),
        linear_ms=statistics.median(linear for _, linear in times_ms),
        added_ms=statistics.median(exact - linear for exact, linear in times_ms),
    )


def _size_inside(model: Model, image: Image) -> tuple[int, int]:
    """Width and height that `preprocess` gives this picture within the network's input."""
    _, transform = model.prepare(image)
    return round(image.shape[1] * transform.scale_x), round(image.shape[0] * transform.scale_y)


def _with_exact(model: Model, image: Image) -> Prediction:
    return model.predict(image)[0]


def _with_linear(model: Model, image: Image, size: tuple[int, int]) -> Prediction:
    """Answer a picture that is resized beforehand, so that `preprocess` finds nothing left to resize."""
    small = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    answer = model.predict(small)[0]
    return answer.in_frame(FrameTransform.resize((image.shape[1], image.shape[0]), size))


def _timed(answer: Callable[[], Prediction]) -> tuple[Prediction, float]:
    start = time.perf_counter()
    return answer(), (time.perf_counter() - start) * 1e3
