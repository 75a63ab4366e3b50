"""Classification: turns a vector of scores into classes, sorted by descending probability."""

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np

from spillover.common.errors import ModelError
from spillover.common.geometry import FrameTransform
from spillover.common.tasks.base import Column, DecodeSettings, Head, TaskSpec
from spillover.common.types import Classification, FloatArray


def decode_softmax(
    outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform
) -> Classification:
    """The first output already holds probabilities (C,)."""
    del transform  # a class has no position in the picture
    return _ranked(_vector(outputs, settings), settings)


def decode_logits(
    outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform
) -> Classification:
    """The first output holds logits (C,): softmax, shifted by the maximum so that it cannot overflow."""
    del transform
    logits = _vector(outputs, settings)
    with np.errstate(invalid="ignore"):  # of infinite logits: NaN, which is refused
        exponent = np.exp(logits - logits.max())
    return _ranked(exponent / exponent.sum(), settings)


def same_class(prediction: Classification, reference: Classification, confidence: float) -> float:
    """1 if the best classes are equal, else 0; probabilities do not count."""
    del confidence
    return float(prediction.class_id[0] == reference.class_id[0])


def _vector(outputs: Sequence[FloatArray], settings: DecodeSettings) -> FloatArray:
    vector = outputs[0].reshape(-1).astype(np.float32, copy=False)
    if not vector.size:
        raise ModelError(
            f"model {settings.model}: the output is empty, a classifier needs at least one class"
        )
    return vector


def _ranked(probability: FloatArray, settings: DecodeSettings) -> Classification:
    if not np.isfinite(probability).all():
        raise ModelError(f"model {settings.model}: a probability is NaN or infinite; the network is broken")
    order = np.argsort(-probability, kind="stable").astype(np.int32)
    return Classification(order, probability[order].astype(np.float32, copy=False))


CLASSIFICATION = TaskSpec(
    name="classification",
    prediction=Classification,
    heads=MappingProxyType({"softmax": Head(decode_softmax), "logits": Head(decode_logits)}),
    columns=MappingProxyType({"class_id": Column(np.int32), "probability": Column(np.float32, decimals=6)}),
    agreement=same_class,
    record_key="classes",
    most_rows=5,
    least_rows=1,
    wire_field="classification",
    scorer="max_softmax",
)
