"""Plays a clip at the full rate and at the scene's: what the model looks at, and which boxes are shown.

Judged is each picture of the clip, passed over or not, by the newest result: the share of the cloud's boxes
that a shown box of the class covers (IoU 0.5). A run is the daemon's own camera rate, reuse and tracker on
the clip's clock, without a cloud; the models' answers come from a cache. So it gives the same figures again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spillover.common.model.manifest import open_model_folder
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import NO_BOXES, Detections, Frame
from spillover.edge.camera.frame_rate import FrameRate, Range
from spillover.edge.inference.still import NOT_RUN, LastLook, Predict
from spillover.edge.tracking.tracker import Tracker, TrackerSettings
from spillover.lab.pairs.fit.matching import match, overlaps
from spillover.lab.pairs.video.answers import answers_of
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.pairs.video.streaming import COUNTED_FROM
from spillover.lab.terminal import Progress

FOUND_IOU = 0.5

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """Figures of a part of a clip."""

    looks: float
    """Share of the pictures that the model looked at."""
    lost: float
    """Share of the cloud's boxes that the full rate shows and this does not; negative: it shows more."""


@dataclass(frozen=True, slots=True, eq=False)
class RateFigures:
    """One clip at the scene's rate, beside the full rate."""

    clip: str
    fps: float
    pictures: int
    boxes: int
    """The cloud's, over all pictures."""
    found: float
    """Share of them that the full rate shows."""
    whole: Part
    first_half: Part
    second_half: Part


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    looked: npt.NDArray[np.bool_]
    found: Counts


def rate_figures(
    edge: Path, cloud: Path, clip: Clip, within: Range, refresh_s: float, progress: Progress
) -> RateFigures:
    """Play the clip both ways. Raises ModelError and SourceError."""
    seen = answers_of(edge, clip, None, progress).boxes
    truth = [boxes.above(COUNTED_FROM) for boxes in answers_of(cloud, clip, None, progress).boxes]
    threshold = open_model_folder(edge).manifest.output.reported_from
    full = _run(clip, seen, truth, threshold, None, 0.0)
    scene = _run(clip, seen, truth, threshold, within, refresh_s)
    boxes = np.array([len(of_frame) for of_frame in truth], np.int64)
    half = len(clip) // 2

    def part(chosen: slice) -> Part:
        lost = (full.found - scene.found)[chosen].sum() / max(1, boxes[chosen].sum())
        return Part(float(scene.looked[chosen].mean()), float(lost))

    return RateFigures(
        clip=clip.name,
        fps=clip.fps,
        pictures=len(clip),
        boxes=int(boxes.sum()),
        found=float(full.found.sum() / max(1, boxes.sum())),
        whole=part(slice(None)),
        first_half=part(slice(0, half)),
        second_half=part(slice(half, None)),
    )


def _run(
    clip: Clip,
    seen: Sequence[Detections],
    truth: Sequence[Detections],
    threshold: float,
    within: Range | None,
    refresh_s: float,
) -> _Run:
    rate, last_look, tracker = FrameRate(within), LastLook(), Tracker(TrackerSettings(), threshold)
    looked, found, shown = np.zeros(len(clip), np.bool_), np.zeros(len(clip), np.int64), NO_BOXES
    for number, image in enumerate(clip.frames()):
        at_s = float(clip.times_s[number])
        if not rate.passed_over(image, at_s):
            frame = Frame(image, str(number), number, "camera", at_s, at_s)
            prediction, _, reused_from = last_look.answer(frame, _says(seen[number]), refresh_s)
            looked[number] = not reused_from
            shown = DETECTION.own(tracker.correct(prediction, image, at_s).prediction)
        found[number] = (match(overlaps(shown, truth[number]), FOUND_IOU) >= 0).sum()
    return _Run(looked, found)


def _says(answer: Detections) -> Predict:
    """The model, which gives this answer to the picture."""
    return lambda _: (answer, NOT_RUN)
