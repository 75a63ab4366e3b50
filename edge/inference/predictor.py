"""What the pipeline needs of a model; and a guard: a model that fails on a frame costs that frame alone."""

from typing import Protocol

import cv2

from spillover.common.errors import ModelError
from spillover.common.log import get_logger
from spillover.common.model.session import StepTimings
from spillover.common.types import Image, ModelId, Prediction

_log = get_logger("model")


class Predictor(Protocol):
    """What the pipeline needs of a model; `common.model.session.Model` is one."""

    @property
    def model_id(self) -> ModelId:
        """Name and version."""
        ...

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Answer one BGR picture. Raises ModelError."""
        ...


class GuardedPredictor:
    """Predicts as `model` does; every failure is a ModelError, logged once a streak. For one thread."""

    def __init__(self, model: Predictor) -> None:
        self._model = model
        self._answered = 0
        self._failed_in_a_row = 0

    @property
    def model_id(self) -> ModelId:
        """Name and version."""
        return self._model.model_id

    @property
    def never_answered(self) -> bool:
        """Whether there were frames, and it failed on every one."""
        return bool(self._failed_in_a_row and not self._answered)

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Answer one BGR picture. Raises ModelError, out of memory included."""
        try:
            answer = self._model.predict(image)
        except (ModelError, MemoryError, cv2.error) as error:
            self._failed_in_a_row += 1
            if self._failed_in_a_row == 1:
                _log.error("model fails; its frames are dropped", error=str(error) or "out of memory")
            raise ModelError(f"model {self.model_id}: {error or 'out of memory'}") from error
        if self._failed_in_a_row:
            _log.info("model answers again", frames_dropped=self._failed_in_a_row)
            self._failed_in_a_row = 0
        self._answered += 1
        return answer
