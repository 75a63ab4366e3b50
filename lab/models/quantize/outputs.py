"""Differences between the float and the INT8 model's answers to the same input tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from spillover.common.model.manifest import ModelFolder
from spillover.common.model.runtimes.onnxruntime import CPU, open_runtime
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks import agreement
from spillover.common.types import FloatArray, Prediction
from spillover.lab.data.pictures import Picture
from spillover.lab.models.quantize.cost import ONE_THREAD
from spillover.lab.pairs.evaluate.predict import seeing_all
from spillover.lab.terminal import Progress

EXACT_PICTURES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Both models' predictions, picture by picture, and three figures over them."""

    float_predictions: list[Prediction]
    int8_predictions: list[Prediction]
    agreement: float
    """Mean over the pictures: same best class, or F1 of the boxes."""
    output_error: float
    """RMS of the difference over the spread (standard deviation) of the float model's outputs."""
    exact_error: float
    """The same if no sum of products overflowed, on the first `EXACT_PICTURES`; see `saturates`."""
    error_where_exact: float
    """`output_error` on just those pictures."""

    @property
    def saturates(self) -> bool:
        """Whether integer sums overflow on this processor (x86 without VNNI), and it shows."""
        return self.error_where_exact > 1.3 * self.exact_error


class RelativeError:
    """Accumulates sums, so that outputs need not be kept."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares, self._errors = 0, 0.0, 0.0, 0.0

    def add(self, reference: Sequence[FloatArray], other: Sequence[FloatArray]) -> None:
        """Take in the outputs of one picture."""
        for a, b in zip(reference, other, strict=True):
            wide = a.astype(np.float64)
            self._count += wide.size
            self._sum += float(wide.sum())
            self._squares += float((wide**2).sum())
            self._errors += float(((wide - b) ** 2).sum())

    @property
    def value(self) -> float:
        """RMS error over standard deviation; 0 before anything was added."""
        if not self._count:
            return 0.0
        variance = self._squares / self._count - (self._sum / self._count) ** 2
        return float(np.sqrt(self._errors / self._count / max(variance, 1e-30)))


def compare_answers(
    float_folder: ModelFolder, int8_folder: ModelFolder, pictures: Sequence[Picture], progress: Progress
) -> Answers:
    """Run both models over `pictures`. Boxes are decoded down to confidence 0.01, agreement counts from 0.3.

    Raises:
        ModelError: a model cannot be run.
        SourceError: a picture cannot be read.
    """
    float_model, int8_model = (Model(seeing_all(f), ONE_THREAD) for f in (float_folder, int8_folder))
    # Not optimised, a quantised layer runs as dequantise, float layer, quantise: no sum overflows.
    exact = open_runtime(int8_folder.onnx_path, SessionConfig(providers=(CPU,)), optimise=False)
    everywhere, here, unsaturated = RelativeError(), RelativeError(), RelativeError()
    float_predictions, int8_predictions = [], []
    for index, picture in enumerate(progress.track(pictures, "comparing")):
        tensor, geometry = float_model.prepare(picture.image())
        float_out, int8_out = float_model.run(tensor[None]), int8_model.run(tensor[None])
        float_predictions.append(float_model.decode(float_out, 0, geometry))
        int8_predictions.append(int8_model.decode(int8_out, 0, geometry))
        everywhere.add(float_out, int8_out)
        if index < EXACT_PICTURES:
            here.add(float_out, int8_out)
            unsaturated.add(float_out, cast("list[FloatArray]", exact.run([tensor[None]])))
    agreements = [agreement(a, b) for a, b in zip(int8_predictions, float_predictions, strict=True)]
    return Answers(
        float_predictions,
        int8_predictions,
        float(np.mean(agreements)),
        everywhere.value,
        unsaturated.value,
        here.value,
    )
