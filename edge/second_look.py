"""A second look: parts of the picture, larger, merged into the answer.

A classifier in doubt looks again at the middle, and answers with the mean (test-time augmentation, as the
averaged crops of Krizhevsky et al., NeurIPS 2012): one more inference for the share of frames in doubt.

A detector looks again at both ends of every oblong picture, as squares, where small objects are larger and
nothing is squeezed (sliced inference: Akyol et al., ICIP 2022): two more inferences a frame.

Both move the local answer and the confidence that the policy judges by.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from common.model.decoders.detection import suppress
from common.model.session import StepTimings
from common.types import Classification, Detections, Image, ModelId, Prediction
from edge.pipeline import Predictor

IOU_THRESHOLD = 0.45
CUT_MARGIN_PX = 4
LEAST_OBLONG = 1.1
"""Below this ratio of sides a square shows hardly anything that the whole picture does not."""

Rect = tuple[int, int, int, int]


class SecondLook:
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
            return self._look_at_ends(image, first, steps)
        if first.confidence >= self._below:
            return first, steps
        second, more = self._model.predict(centre(image, self._zoom))
        assert isinstance(second, Classification)  # noqa: S101 - the same model
        return averaged(first, second), _sum(steps, more)

    def _look_at_ends(
        self, image: Image, first: Detections, steps: StepTimings
    ) -> tuple[Prediction, StepTimings]:
        looks, (height, width) = [first], image.shape[:2]
        for left, top, right, bottom in end_squares(width, height):
            found, more = self._model.predict(image[top:bottom, left:right])
            assert isinstance(found, Detections)  # noqa: S101 - the same model
            looks.append(uncut(found, (left, top, right, bottom), width, height))
            steps = _sum(steps, more)
        return (merged(looks) if len(looks) > 1 else first), steps


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


def uncut(found: Detections, part: Rect, width: int, height: int) -> Detections:
    """Boxes found in a part, in pixels of the whole, without those that the part's border cuts."""
    left, top, right, bottom = part
    xyxy = found.xyxy + np.array([left, top, left, top], np.float32)
    cut = (xyxy[:, 0] <= left + CUT_MARGIN_PX) & (left > 0)
    cut |= (xyxy[:, 1] <= top + CUT_MARGIN_PX) & (top > 0)
    cut |= (xyxy[:, 2] >= right - CUT_MARGIN_PX) & (right < width)
    cut |= (xyxy[:, 3] >= bottom - CUT_MARGIN_PX) & (bottom < height)
    return Detections(xyxy[~cut], found.confidence[~cut], found.class_id[~cut])


def merged(looks: list[Detections], most: int = 100) -> Detections:
    """All boxes of several looks, class-wise suppressed, the `most` confident of them."""
    xyxy = np.concatenate([look.xyxy for look in looks])
    confidence = np.concatenate([look.confidence for look in looks])
    class_id = np.concatenate([look.class_id for look in looks])
    order = np.argsort(-confidence, kind="stable")
    xyxy, confidence, class_id = xyxy[order], confidence[order], class_id[order]
    kept = suppress(xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2], class_id, IOU_THRESHOLD)[:most]
    return Detections(xyxy[kept], confidence[kept], class_id[kept])


def _sum(steps: StepTimings, more: StepTimings) -> StepTimings:
    return replace(
        steps,
        preprocess_s=steps.preprocess_s + more.preprocess_s,
        infer_s=steps.infer_s + more.infer_s,
        decode_s=steps.decode_s + more.decode_s,
    )
