"""Rate-accuracy curves: the same labelled pictures as JPEGs and as features of each cut, at several sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np

from spillover.common.features.quantizer import Quantizer
from spillover.common.images import decode_jpeg, encode_jpeg
from spillover.common.model.manifest import Colour, Layout, Resize
from spillover.common.model.preprocess import preprocess
from spillover.common.model.session import Model
from spillover.common.model.split import Cut, SplitPlan, head_path, tail_path
from spillover.common.types import FloatArray, Image, Prediction
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.pairs.evaluate.mixture import accuracy_of
from spillover.lab.split.clip import fit_distribution, optimal_clip
from spillover.lab.split.coding import coded, mean_bytes
from spillover.lab.split.extract import Half
from spillover.lab.terminal import Progress

QUALITIES = (95, 85, 70, 50, 30, 15)
SIZES = (1.0, 0.8, 0.6)
CODINGS = ((3, 2.0), (3, 1.4), (5, 1.5), (9, 1.2), (15, 1.0))
"""Levels and widening of the points on a cut's curve."""
CHOSEN = "chosen"
MAX_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class RatePoint:
    """Mean bytes a frame and the accuracy with them; `setting` says how it was coded."""

    setting: str
    frame_bytes: float
    accuracy: float


Curve = tuple[RatePoint, ...]


def jpeg_curves(model: Model, data: LabelledSet, progress: Progress) -> dict[str, Curve]:
    """JPEG of whole frames and of the network's view alone, at several sizes and qualities.

    The second spends no bytes on pixels that the network would drop; the edge must know the network's
    preprocessing for it, as for features.
    """
    judged: dict[tuple[str, str], list[tuple[int, Prediction]]] = {}
    for picture in progress.track(data.pictures, "JPEG"):
        image = picture.image()
        for size in SIZES:
            for quality in QUALITIES:
                setting = f"quality {quality}, size {size:.0%}"
                for form, answer in (("whole frame", _by_frame), ("network's view", _by_view)):
                    judged.setdefault((form, setting), []).append(answer(model, image, quality, size))
    curves: dict[str, list[RatePoint]] = {}
    for (form, setting), answers in judged.items():
        sizes, predictions = zip(*answers, strict=True)
        point = RatePoint(setting, float(np.mean(sizes)), accuracy_of(data.truth, predictions))
        curves.setdefault(form, []).append(point)
    return {form: _sorted(points) for form, points in curves.items()}


def cut_curves(
    folder: Path, plan: SplitPlan, model: Model, data: LabelledSet, threads: int, progress: Progress
) -> dict[str, Curve]:
    """Each cut's features at the chosen coding, and at coarser and finer ones."""
    return {cut.name: _cut_curve(folder, cut, model, data, threads, progress) for cut in plan.cuts}


def whole_accuracy(model: Model, data: LabelledSet, progress: Progress) -> float:
    """Of the network on uncompressed pictures."""
    predictions = [model.predict(p.image())[0] for p in progress.track(data.pictures, "uncompressed")]
    return accuracy_of(data.truth, predictions)


def bytes_at(curve: Curve, wanted_accuracy: float) -> float | None:
    """The fewest bytes with which at least that accuracy was reached; None when it never was."""
    reached = [point.frame_bytes for point in curve if point.accuracy >= wanted_accuracy]
    return min(reached, default=None)


def accuracy_at(curve: Curve, frame_bytes: float) -> float | None:
    """The best accuracy with at most so many bytes; None when all took more."""
    affordable = [point.accuracy for point in curve if point.frame_bytes <= frame_bytes]
    return max(affordable, default=None)


def _cut_curve(
    folder: Path, cut: Cut, model: Model, data: LabelledSet, threads: int, progress: Progress
) -> Curve:
    head, tail = Half(head_path(folder, cut.name), threads), Half(tail_path(folder, cut.name), threads)
    features, geometries = [], []
    for picture in progress.track(data.pictures, f"head of {cut.name}"):
        tensor, geometry = model.prepare(picture.image())
        features.append([output[0] for output in head.run([tensor[None]])])
        geometries.append(geometry)
    codings = {CHOSEN: tuple(seam.quantizer for seam in cut.seams)} | _codings(features[:16])
    points = []
    for setting, quantizers in progress.track(list(codings.items()), f"tail of {cut.name}"):
        answers = [
            model.decode(tail.run([t[None] for t in coded(tensors, quantizers)]), 0, geometry)
            for tensors, geometry in zip(features, geometries, strict=True)
        ]
        points.append(RatePoint(setting, mean_bytes(features, quantizers), accuracy_of(data.truth, answers)))
    return _sorted(points)


def _codings(features: Sequence[Sequence[FloatArray]]) -> dict[str, tuple[Quantizer, ...]]:
    fits = [fit_distribution(np.stack(tensors)) for tensors in zip(*features, strict=True)]
    codings = {}
    for levels, widen in CODINGS:
        clips = [optimal_clip(fit, levels, widen) for fit in fits]
        codings[f"{levels} levels, clip x {widen}"] = tuple(
            Quantizer(levels=levels, low=low, high=high) for low, high in clips
        )
    return codings


def _by_frame(model: Model, image: Image, quality: int, size: float) -> tuple[int, Prediction]:
    sent = encode_jpeg(image, quality, round(size * max(image.shape[:2])))
    answer = model.predict_jpeg(sent.data, MAX_PIXELS)
    return len(sent.data), answer.in_frame(sent.transform)


def _by_view(model: Model, image: Image, quality: int, size: float) -> tuple[int, Prediction]:
    """Send the network's view, as a picture of its input's size or smaller."""
    spec = model.manifest.own_input
    plain = msgspec.structs.replace(
        spec, layout=Layout.NHWC, colour=Colour.BGR, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    pixels, geometry = preprocess(image, plain)
    sent = encode_jpeg(np.rint(pixels).astype(np.uint8), quality, round(size * max(spec.height, spec.width)))
    view = decode_jpeg(sent.data, MAX_PIXELS)
    if view.shape[:2] != (spec.height, spec.width):
        view = cv2.resize(view, (spec.width, spec.height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    tensor, _ = preprocess(view, msgspec.structs.replace(spec, resize=Resize.STRETCH))
    return len(sent.data), model.decode(model.run(tensor[None]), 0, geometry)


def _sorted(points: Sequence[RatePoint]) -> Curve:
    return tuple(sorted(points, key=lambda point: point.frame_bytes))
