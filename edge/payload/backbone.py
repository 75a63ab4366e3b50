"""An early exit as the edge's model: it keeps its backbone's features, so sending them needs no more run."""

import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass

from spillover.common.errors import ModelError
from spillover.common.geometry import FrameTransform
from spillover.common.model.exit import ExitInfo
from spillover.common.model.pictures import StepTimings
from spillover.common.model.session import Model
from spillover.common.types import FloatArray, Image, ModelId, Prediction


@dataclass(frozen=True, slots=True, eq=False)
class BackboneFeatures:
    """Features of one picture, and the transform from the picture to the network's input."""

    tensors: list[FloatArray]
    """Without batch axis, in the order of the cut's tensors."""
    transform: FrameTransform


class BackboneWithFeatures:
    """Answers as the wrapped model does, and keeps the features of the last `memory` pictures.

    Pictures are compared by array identity: a redacted copy is another picture and never gets the features of
    the original. Thread-safe.

    Raises:
        ModelError: the network lacks outputs that `info` names.
    """

    def __init__(self, model: Model, info: ExitInfo, memory: int) -> None:
        self._model = model
        self.info = info
        outputs = [spec.name for spec in model.outputs]
        if missing := set(info.features) - set(outputs):
            raise ModelError(f"model {model.model_id}: exit.yaml names outputs {missing}, it has {outputs}")
        self._places = [outputs.index(name) for name in info.features]
        self._lock = threading.Lock()
        self._kept: deque[tuple[weakref.ref[Image], BackboneFeatures]] = deque(maxlen=memory)

    @property
    def model_id(self) -> ModelId:
        """Name and version of the wrapped model."""
        return self._model.model_id

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Answer one BGR picture and keep its features. Raises ModelError."""
        started_s = time.perf_counter()
        tensor, transform = self._model.prepare(image)
        prepared_s = time.perf_counter()
        outputs = self._model.run(tensor[None])
        ran_s = time.perf_counter()
        prediction = self._model.decode(outputs, 0, transform)
        features = BackboneFeatures([outputs[place][0] for place in self._places], transform)
        with self._lock:
            self._kept.append((weakref.ref(image), features))
        done_s = time.perf_counter()
        return prediction, StepTimings(prepared_s - started_s, ran_s - prepared_s, done_s - ran_s)

    def recall(self, image: Image) -> BackboneFeatures | None:
        """The features of that very array; None if it is not among the last `memory` pictures."""
        with self._lock:
            return next((features for kept, features in self._kept if kept() is image), None)
