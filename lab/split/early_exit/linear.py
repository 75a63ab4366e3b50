"""A linear exit: logistic regression from the backbone's features to classes, taught by the network itself.

Features are averaged over a grid of 2x2 parts of the picture and standardised. The targets are the whole
network's probabilities on unlabelled pictures (knowledge distillation: Hinton, Vinyals and Dean, 2015). Mean
cross-entropy with an L2 penalty is minimised by Nesterov's accelerated gradient, whose step is the inverse of
the Lipschitz constant, at most 1/2 of the largest eigenvalue of the features' covariance (Boehning, 1992).
The penalty is chosen on a quarter of the pictures that the others were fitted without.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spillover.common.types import FloatArray

GRID = 2
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
STEPS = 300

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """Weight (classes, inputs) and bias (classes,) behind an average pool of this kernel and stride.

    `kernel` and `stride` are (height, width); both empty where the features have no spatial axes.
    """

    weight: FloatArray
    bias: FloatArray
    kernel: tuple[int, ...]
    stride: tuple[int, ...]

    def apply(self, features: FloatArray) -> FloatArray:
        """Logits (classes,) of features (C, H, W) or (C,)."""
        logits: FloatArray = self.weight @ pooled(features, self.kernel, self.stride) + self.bias
        return logits


def pool_of(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Kernel and stride that lead from (C, H, W) to GRID x GRID parts, or to one where it is too small."""
    sides = shape[1:]
    grid = GRID if sides and min(sides) >= GRID else 1
    stride = tuple(side // grid for side in sides)
    return tuple(side - (grid - 1) * step for side, step in zip(sides, stride, strict=True)), stride


def pooled(features: FloatArray, kernel: tuple[int, ...], stride: tuple[int, ...]) -> FloatArray:
    """The inputs of the regression, flat."""
    if not kernel:
        return features.reshape(-1)
    windows = np.lib.stride_tricks.sliding_window_view(features, kernel, axis=(1, 2))
    return np.asarray(windows[:, :: stride[0], :: stride[1]].mean(axis=(3, 4)), np.float32).reshape(-1)


def fit_linear(sources: Sequence[FloatArray], probabilities: Sequence[FloatArray]) -> Linear:
    """Fit from features of pictures to the whole network's probabilities (classes,) on them."""
    kernel, stride = pool_of(sources[0].shape)
    raw = np.stack([pooled(source, kernel, stride) for source in sources]).astype(np.float64)
    targets = np.stack(probabilities).astype(np.float64)
    mean, scale = raw.mean(axis=0), raw.std(axis=0) + 1e-6
    inputs = np.concatenate([(raw - mean) / scale, np.ones((len(raw), 1))], axis=1)
    held_out = np.arange(len(inputs)) % 4 == 3
    penalty = min(PENALTIES, key=lambda one: _held_out_loss(inputs, targets, held_out, one))
    solution = _descend(inputs, targets, penalty)
    weight = solution[:-1] / scale[:, None]
    bias = solution[-1] - mean @ weight
    return Linear(weight.T.astype(np.float32), bias.astype(np.float32), kernel, stride)


def _held_out_loss(inputs: Matrix, targets: Matrix, held_out: npt.NDArray[np.bool_], penalty: float) -> float:
    solution = _descend(inputs[~held_out], targets[~held_out], penalty)
    found = softmax(inputs[held_out] @ solution)
    return float(-(targets[held_out] * np.log(found + 1e-12)).sum(axis=1).mean())


def _descend(inputs: Matrix, targets: Matrix, penalty: float) -> Matrix:
    covariance = inputs.T @ inputs / len(inputs)
    step = 1 / (0.5 * float(np.linalg.eigvalsh(covariance)[-1]) + penalty)
    weights = ahead = np.zeros((inputs.shape[1], targets.shape[1]))
    shrink = np.full((inputs.shape[1], 1), penalty)
    shrink[-1] = 0  # the bias is free
    for number in range(STEPS):
        gradient = inputs.T @ (softmax(inputs @ ahead) - targets) / len(inputs) + shrink * ahead
        before, weights = weights, ahead - step * gradient
        ahead = weights + number / (number + 3) * (weights - before)
    return weights


def softmax(logits: Matrix) -> Matrix:
    """Along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Matrix = powers / powers.sum(axis=-1, keepdims=True)
    return shares
