"""The model interface that the pipeline uses, and a wrapper that limits a model failure to its frame."""

from collections.abc import Callable, Sequence
from typing import Protocol

import cv2

from spillover.common.errors import ModelError
from spillover.common.log import get_logger
from spillover.common.model.pictures import StepTimings
from spillover.common.types import Image, ModelId, Prediction

_log = get_logger("model")


class Predictor(Protocol):
    """A model as the pipeline uses it; `common.model.session.Model` is one."""

    @property
    def model_id(self) -> ModelId:
        """Name and version of the model."""
        ...

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Answer one BGR picture. Raises ModelError."""
        ...


class GuardedPredictor:
    """Runs `model`, or one of its `variants`, and turns every failure into a ModelError. For one thread.

    A failure is logged once per streak.

    `on_boxes_dropped` hears how many boxes of an answer were left out since they are not finite; the first
    time is logged.
    """

    def __init__(
        self,
        model: Predictor,
        on_boxes_dropped: Callable[[int], None],
        variants: Sequence[Predictor] = (),
    ) -> None:
        self._models = (model, *variants)
        self.variant = 0
        """Which one ran last: 0 is the model itself."""
        self._on_boxes_dropped = on_boxes_dropped
        self._told_of_boxes = False
        self._answered = 0
        self._failed_in_a_row = 0

    @property
    def model_id(self) -> ModelId:
        """Name and version of the model that ran last."""
        return self.model_of(self.variant)

    def model_of(self, variant: int) -> ModelId:
        """Name and version of the model itself (0), or of a variant by its number from 1 on."""
        return self._models[variant].model_id

    @property
    def never_answered(self) -> bool:
        """Whether the model got frames and failed on all of them."""
        return bool(self._failed_in_a_row and not self._answered)

    def predict(self, image: Image, variant: int = 0) -> tuple[Prediction, StepTimings]:
        """Answer one BGR picture. Raises ModelError, also when memory runs out."""
        self.variant = variant
        try:
            answer = self._models[variant].predict(image)
        except (ModelError, MemoryError, cv2.error) as error:
            self._failed_in_a_row += 1
            if self._failed_in_a_row == 1:
                _log.error("model fails; its frames are dropped", error=str(error) or "out of memory")
            raise ModelError(f"model {self.model_id}: {error or 'out of memory'}") from error
        if self._failed_in_a_row:
            _log.info("model answers again", frames_dropped=self._failed_in_a_row)
            self._failed_in_a_row = 0
        self._answered += 1
        if (boxes := answer[0].boxes) is not None and boxes.not_finite:
            self._boxes_dropped(boxes.not_finite)
        return answer

    def _boxes_dropped(self, count: int) -> None:
        self._on_boxes_dropped(count)
        if not self._told_of_boxes:
            self._told_of_boxes = True
            _log.error("model gives boxes that are not finite; they are left out", boxes=count)
