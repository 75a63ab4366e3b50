"""A second look: parts of the picture, larger, merged into the answer.

A classifier in doubt looks again at the middle, and answers with the mean (test-time augmentation, as the
averaged crops of Krizhevsky et al., NeurIPS 2012): one more inference for the share of frames in doubt.

A detector looks again at the middle, and at both ends of an oblong picture, as squares, where small objects
are larger and nothing is squeezed (sliced inference: Akyol et al., ICIP 2022): three more inferences a frame.
Boxes of one object are fused: their mean place, and more confidence the more of the looks agree (weighted
boxes fusion: Solovyev et al., Image and Vision Computing 2021).

Both move the local answer and the confidence that the policy judges by.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from spillover.common.agreement import pairwise_iou
from spillover.common.model.decoders.detection import suppress
from spillover.common.model.session import StepTimings
from spillover.common.types import Classification, Detections, FloatArray, Image, ModelId, Prediction
from spillover.edge.inference.predictor import Predictor

SAME_BOX_IOU = 0.6
CUT_MARGIN_PX = 4
MIDDLE = 0.7
"""Of the shorter side, for detectors."""
LEAST_OBLONG = 1.1
"""Below this ratio of sides a square shows hardly anything that the whole picture does not."""

Rect = tuple[int, int, int, int]
Mask = npt.NDArray[np.bool_]


class MultiViewPredictor:
    """A model that looks again: a classifier where its best class is below `below`, a detector always.

    `zoom` is the share of each side that a classifier sees again.
    """

    def __init__(self, model: Predictor, below: float, zoom: float) -> None:
        self._model = model
        self._below = below
        self._zoom = zoom

    @property
    def model_id(self) -> ModelId:
        """The model's own."""
        return self._model.model_id

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Answer one BGR picture; the timings hold all looks. Raises ModelError."""
        first, steps = self._model.predict(image)
        if isinstance(first, Detections):
            return self._look_at_parts(image, first, steps)
        if first.confidence >= self._below:
            return first, steps
        second, more = self._model.predict(centre(image, self._zoom))
        assert isinstance(second, Classification)  # noqa: S101 - the same model
        return averaged(first, second), _sum(steps, more)

    def _look_at_parts(
        self, image: Image, first: Detections, steps: StepTimings
    ) -> tuple[Prediction, StepTimings]:
        height, width = image.shape[:2]
        looks, parts = [first], [(0, 0, width, height), *end_squares(width, height), middle(width, height)]
        for left, top, right, bottom in parts[1:]:
            found, more = self._model.predict(image[top:bottom, left:right])
            assert isinstance(found, Detections)  # noqa: S101 - the same model
            looks.append(uncut(found, (left, top, right, bottom), width, height))
            steps = _sum(steps, more)
        return fused(looks, parts, width, height), steps


def centre(image: Image, zoom: float) -> Image:
    """The middle of a picture, `zoom` of each side, at least one pixel."""
    height, width = image.shape[:2]
    crop_height, crop_width = max(1, round(height * zoom)), max(1, round(width * zoom))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return image[top : top + crop_height, left : left + crop_width]


def averaged(first: Classification, second: Classification) -> Classification:
    """The mean of two answers of one model, by descending probability."""
    mean = np.zeros(first.class_id.size, np.float32)
    for look in (first, second):
        mean[look.class_id] += look.probability / np.float32(2)
    order = np.argsort(-mean, kind="stable").astype(np.int32)
    return Classification(order, mean[order])


def end_squares(width: int, height: int) -> Iterator[Rect]:
    """Left, top, right, bottom of the squares at both ends of the longer side; none in a squarish picture."""
    side = min(width, height)
    if max(width, height) < LEAST_OBLONG * side:
        return
    yield (0, 0, side, side)
    yield (width - side, height - side, width, height)


def middle(width: int, height: int) -> Rect:
    """Left, top, right, bottom of the square in the middle that a detector looks at."""
    side = max(1, int(MIDDLE * min(width, height)))
    left, top = (width - side) // 2, (height - side) // 2
    return (left, top, left + side, top + side)


def uncut(found: Detections, part: Rect, width: int, height: int) -> Detections:
    """Boxes found in a part, in pixels of the whole, without those that the part's border cuts."""
    left, top = part[:2]
    xyxy = found.xyxy + np.array([left, top, left, top], np.float32)
    whole = shows(part, xyxy, width, height)
    return Detections(xyxy[whole], found.confidence[whole], found.class_id[whole])


def shows(part: Rect, xyxy: FloatArray, width: int, height: int) -> Mask:
    """Which boxes (N, 4) a part of the picture shows without cutting them, (N,)."""
    left, top, right, bottom = part
    low = [left + CUT_MARGIN_PX if left > 0 else -np.inf, top + CUT_MARGIN_PX if top > 0 else -np.inf]
    high = [
        right - CUT_MARGIN_PX if right < width else np.inf,
        bottom - CUT_MARGIN_PX if bottom < height else np.inf,
    ]
    inside = np.concatenate([xyxy[:, :2] > low, xyxy[:, 2:] < high], axis=1)
    whole: Mask = np.logical_and.reduce(inside, axis=1)
    return whole


def fused(
    looks: Sequence[Detections], parts: Sequence[Rect], width: int, height: int, most: int = 100
) -> Detections:
    """One box for all that overlap the surest of them, the `most` confident of these.

    Its place is their mean, by confidence. Its confidence is the mean of the surest look's and of the mean
    over all looks that show the place, where one that found nothing counts 0.
    """
    xyxy = np.concatenate([look.xyxy for look in looks])
    confidence = np.concatenate([look.confidence for look in looks])
    class_id = np.concatenate([look.class_id for look in looks])
    look = np.repeat(np.arange(len(looks)), [len(each) for each in looks])
    order = np.argsort(-confidence, kind="stable")
    xyxy, confidence, class_id, look = xyxy[order], confidence[order], class_id[order], look[order]
    surest = suppress(xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2], class_id, SAME_BOX_IOU)
    if not surest.size:
        return Detections(xyxy, confidence, class_id)
    same = pairwise_iou(xyxy[surest], xyxy) >= SAME_BOX_IOU
    same &= class_id[surest][:, None] == class_id[None, :]
    same[np.arange(surest.size), surest] = True
    total, weight = np.zeros((surest.size, 4)), np.zeros(surest.size)
    shown = np.zeros(surest.size)
    for number, part in enumerate(parts):
        among = np.where(same & (look == number), confidence, 0.0)
        best = among.argmax(axis=1)
        sure = among[np.arange(surest.size), best]
        total += sure[:, None] * xyxy[best]
        weight += sure
        shown += (sure > 0) | shows(part, xyxy[surest], width, height)
    agreed = ((confidence[surest] + weight / shown) / 2).astype(np.float32)
    place = (total / np.maximum(weight, 1e-9)[:, None]).astype(np.float32)
    kept = np.argsort(-agreed, kind="stable")[:most]
    return Detections(place[kept], agreed[kept], class_id[surest][kept])


def _sum(steps: StepTimings, more: StepTimings) -> StepTimings:
    return replace(
        steps,
        preprocess_s=steps.preprocess_s + more.preprocess_s,
        infer_s=steps.infer_s + more.infer_s,
        decode_s=steps.decode_s + more.decode_s,
    )
