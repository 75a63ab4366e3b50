"""Decoders of classifiers: a vector of scores to classes by descending probability."""

from collections.abc import Sequence

import numpy as np

from spillover.common.errors import ModelError
from spillover.common.model.manifest import Manifest
from spillover.common.model.preprocess import Geometry
from spillover.common.types import Classification, FloatArray


def decode_softmax(outputs: Sequence[FloatArray], manifest: Manifest, geometry: Geometry) -> Classification:
    """The first output already holds probabilities (C,)."""
    del geometry  # a class has no place in the picture
    return _ranked(_vector(outputs, manifest))


def decode_logits(outputs: Sequence[FloatArray], manifest: Manifest, geometry: Geometry) -> Classification:
    """The first output holds logits (C,): softmax, shifted by the maximum so that it cannot overflow."""
    del geometry
    logits = _vector(outputs, manifest)
    exponent = np.exp(logits - logits.max())
    return _ranked(exponent / exponent.sum())


def _vector(outputs: Sequence[FloatArray], manifest: Manifest) -> FloatArray:
    vector = outputs[0].reshape(-1).astype(np.float32, copy=False)
    if not vector.size:
        raise ModelError(f"model {manifest.name}: the output is empty, a classifier needs at least one class")
    return vector


def _ranked(probability: FloatArray) -> Classification:
    order = np.argsort(-probability, kind="stable").astype(np.int32)
    return Classification(order, probability[order].astype(np.float32, copy=False))
