"""Multi-view inference: the model also runs on enlarged parts of the picture, and the answers are merged.

A classifier that is unsure runs again on the middle of the picture, and the answer is the mean (test-time
augmentation, as the averaged crops of Krizhevsky et al., NeurIPS 2012): one more inference for each unsure
frame.

A detector runs again on a square in the middle, and on a square at both ends of an oblong picture. Small
objects are larger there and the aspect ratio is kept (sliced inference: Akyol et al., ICIP 2022): up to three
more inferences a frame. Boxes of one object are fused: their position is the mean, and their confidence grows
with the number of views that agree (weighted boxes fusion: Solovyev et al., Image and Vision Computing 2021).

Both change the local answer and the confidence on which the policy decides.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from spillover.common.errors import ConfigError
from spillover.common.geometry import FrameTransform
from spillover.common.model.pictures import StepTimings
from spillover.common.tasks.base import TaskSpec
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION, pairwise_iou, suppress
from spillover.common.types import (
    NO_BOXES,
    Classification,
    Detections,
    FloatArray,
    Image,
    ModelId,
    Prediction,
)
from spillover.edge.config import MultiViewConfig
from spillover.edge.inference.predictor import Predictor

SAME_BOX_IOU = 0.6
CUT_MARGIN_PX = 4
MIDDLE = 0.7
"""Side of the middle square for detectors, as a share of the picture's shorter side."""
LEAST_OBLONG = 1.1
"""Below this aspect ratio the end squares show almost nothing that the whole picture does not."""

Rect = tuple[int, int, int, int]
Mask = npt.NDArray[np.bool_]
Look = Callable[[Predictor, MultiViewConfig, Image], tuple[Prediction, StepTimings]]


class MultiViewPredictor:
    """A model that runs on several views of a picture, as `LOOKS` defines for its task."""

    def __init__(self, model: Predictor, config: MultiViewConfig, look: Look) -> None:
        self._model = model
        self._config = config
        self._look = look

    @property
    def model_id(self) -> ModelId:
        """Name and version of the wrapped model."""
        return self._model.model_id

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Answer one BGR picture; the timings cover all views. Raises ModelError."""
        return self._look(self._model, self._config, image)


def look_at_centre(model: Predictor, config: MultiViewConfig, image: Image) -> tuple[Prediction, StepTimings]:
    """For classifiers: run again on the middle (`zoom` a side) if the best probability is under `below`."""
    first, steps = model.predict(image)
    if first.top_confidence >= config.below:
        return first, steps
    second, more = model.predict(centre(image, config.zoom))
    return averaged(CLASSIFICATION.own(first), CLASSIFICATION.own(second)), _sum(steps, more)


def look_at_parts(model: Predictor, config: MultiViewConfig, image: Image) -> tuple[Prediction, StepTimings]:
    """For detectors: always run on the whole picture and on its parts."""
    del config
    height, width = image.shape[:2]
    parts = [(0, 0, width, height), *end_squares(width, height), middle(width, height)]
    first, steps = model.predict(image)
    looks = [DETECTION.own(first)]
    for left, top, right, bottom in parts[1:]:
        prediction, more = model.predict(image[top:bottom, left:right])
        looks.append(uncut(DETECTION.own(prediction), (left, top, right, bottom), width, height))
        steps = _sum(steps, more)
    return fused(looks, parts, width, height), steps


LOOKS: Mapping[str, Look] = MappingProxyType(
    {CLASSIFICATION.name: look_at_centre, DETECTION.name: look_at_parts}
)


def build_multi_view(config: MultiViewConfig | None, model: Predictor, task: TaskSpec[Any]) -> Predictor:
    """The model with the views that `config` asks for; with None the model itself.

    Raises:
        ConfigError: models of this task have no multi-view inference.
    """
    if config is None:
        return model
    if task.name not in LOOKS:
        raise ConfigError(f"model.multi_view: is for {' and '.join(LOOKS)}, not for {task.name}")
    return MultiViewPredictor(model, config, LOOKS[task.name])


def centre(image: Image, zoom: float) -> Image:
    """The middle of a picture, `zoom` of each side and at least one pixel."""
    height, width = image.shape[:2]
    crop_height, crop_width = max(1, round(height * zoom)), max(1, round(width * zoom))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return image[top : top + crop_height, left : left + crop_width]


def averaged(first: Classification, second: Classification) -> Classification:
    """The mean of two answers of one model, sorted by descending probability."""
    mean = np.zeros(first.class_id.size, np.float32)
    for look in (first, second):
        mean[look.class_id] += look.probability / np.float32(2)
    order = np.argsort(-mean, kind="stable").astype(np.int32)
    return Classification(order, mean[order])


def end_squares(width: int, height: int) -> Iterator[Rect]:
    """Left, top, right, bottom of the squares at both ends of the longer side; none if nearly square."""
    side = min(width, height)
    if max(width, height) < LEAST_OBLONG * side:
        return
    yield (0, 0, side, side)
    yield (width - side, height - side, width, height)


def middle(width: int, height: int) -> Rect:
    """Left, top, right, bottom of the middle square on which a detector runs."""
    side = max(1, int(MIDDLE * min(width, height)))
    left, top = (width - side) // 2, (height - side) // 2
    return (left, top, left + side, top + side)


def uncut(detections: Detections, part: Rect, width: int, height: int) -> Detections:
    """Boxes found in a part, in pixels of the whole picture, without boxes that the part's border cuts."""
    detections = detections.in_frame(FrameTransform.crop((width, height), *part[:2]))
    return detections[shows(part, detections.xyxy, width, height)]


def shows(part: Rect, xyxy: FloatArray, width: int, height: int) -> Mask:
    """Which boxes (N, 4) lie wholly inside a part of the picture, as a mask (N,)."""
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
    """One box for each group that overlaps its most confident box; at most `most`, by confidence.

    The position is the mean weighted by confidence. The confidence is the mean of two numbers: that of the
    most confident view, and the mean over all views that show the place (a view without the box counts 0).
    """
    xyxy = np.concatenate([look.xyxy for look in looks])
    confidence = np.concatenate([look.confidence for look in looks])
    class_id = np.concatenate([look.class_id for look in looks])
    look = np.repeat(np.arange(len(looks)), [len(detections) for detections in looks])
    order = np.argsort(-confidence, kind="stable")
    xyxy, confidence, class_id, look = xyxy[order], confidence[order], class_id[order], look[order]
    surest = suppress(xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2], class_id, SAME_BOX_IOU)
    not_finite = sum(one.not_finite for one in looks)
    if not surest.size:
        return replace(NO_BOXES, not_finite=not_finite)
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
    found = Detections(place, agreed, class_id[surest], not_finite)
    return found[np.argsort(-agreed, kind="stable")[:most]]


def _sum(steps: StepTimings, more: StepTimings) -> StepTimings:
    return replace(
        steps,
        preprocess_s=steps.preprocess_s + more.preprocess_s,
        infer_s=steps.infer_s + more.infer_s,
        decode_s=steps.decode_s + more.decode_s,
    )
