"""A second look at frames in doubt: the middle of the picture, larger, and the mean of both answers.

Costs one more inference for the share of frames in doubt, and moves both the local answer and the
confidence that the policy judges by
(test-time augmentation, as the averaged crops of Krizhevsky et al., NeurIPS 2012).
"""

from dataclasses import replace

import numpy as np

from common.model.session import StepTimings
from common.types import Classification, Image, ModelId, Prediction
from edge.pipeline import Predictor


class SecondLook:
    """A model that looks again where its best class is below `below`; `zoom` is the share of each side kept.

    Detections pass unchanged.
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
        """Answer one BGR picture; the timings hold both looks. Raises ModelError."""
        first, steps = self._model.predict(image)
        if not isinstance(first, Classification) or first.confidence >= self._below:
            return first, steps
        second, more = self._model.predict(centre(image, self._zoom))
        assert isinstance(second, Classification)  # noqa: S101 - the same model
        return averaged(first, second), replace(
            steps,
            preprocess_s=steps.preprocess_s + more.preprocess_s,
            infer_s=steps.infer_s + more.infer_s,
            decode_s=steps.decode_s + more.decode_s,
        )


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
