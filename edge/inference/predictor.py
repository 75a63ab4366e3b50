"""What the pipeline needs of a model."""

from typing import Protocol

from spillover.common.model.session import StepTimings
from spillover.common.types import Image, ModelId, Prediction


class Predictor(Protocol):
    """What the pipeline needs of a model; `common.model.session.Model` is one."""

    @property
    def model_id(self) -> ModelId:
        """Name and version."""
        ...

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Answer one BGR picture. Raises ModelError."""
        ...
