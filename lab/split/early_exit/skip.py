"""The convolution of an early exit: fitted by least squares from one tensor of a network to a later one.

The exit is: backbone up to a cut, one fitted convolution in place of the layers that are skipped, then the
network's own remaining layers. The weights W minimise sum |B - conv(A, W)|^2 + lambda |W|^2 over all
positions of the calibration pictures, where A are the features at the cut and B those at the later tensor:
ridge regression (Hoerl and Kennard, 1970) on the patches of A, solved through its normal equations. Where B
has no spatial axes, A is averaged over them first. It takes pictures and no labels, because the network
itself gives B.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, helper, numpy_helper

from spillover.common.types import FloatArray

RIDGE = 1e-2
"""lambda, as a share of the mean of the normal matrix's diagonal."""


@dataclass(frozen=True, slots=True)
class Skip:
    """A fitted convolution: weight (out, in, kernel, kernel), bias (out,), stride, padding (before, after).

    `pooled`: the input is averaged over its spatial axes first, and the kernel is 1.
    """

    weight: FloatArray
    bias: FloatArray
    stride: int
    pads: tuple[int, int]
    pooled: bool

    def apply(self, features: FloatArray) -> FloatArray:
        """The layer in numpy: (C, H, W) to (out, h, w), or to (out,) when pooled."""
        columns = patches(features, self.weight.shape[2], self.stride, self.pads, pooled=self.pooled)
        flat = columns @ self.weight.reshape(len(self.weight), -1).T + self.bias
        if self.pooled:
            return np.asarray(flat[0], np.float32)
        side = round(len(flat) ** 0.5)
        return np.asarray(flat.T.reshape(-1, side, side), np.float32)


def geometry(
    source: tuple[int, ...], target: tuple[int, ...], kernel: int
) -> tuple[int, tuple[int, int]] | None:
    """Stride and padding (before, after) that lead from one shape to the other; None where none do."""
    if len(source) == 3 and len(target) == 1:  # pooled
        return 1, (0, 0)
    if len(source) != 3 or len(target) != 3 or source[1] != source[2] or target[1] != target[2]:
        return None
    stride = -(-source[1] // target[1])
    total = (target[1] - 1) * stride + kernel - source[1]
    if total < 0 or total >= 2 * kernel:
        return None
    return stride, (total // 2, total - total // 2)


def patches(
    features: FloatArray, kernel: int, stride: int, pads: tuple[int, int], *, pooled: bool
) -> FloatArray:
    """The kernel's input at each output position: (positions, in * kernel * kernel); one mean when pooled."""
    if pooled:
        return np.asarray(features.reshape(len(features), -1).mean(axis=1)[None], np.float32)
    padded = np.pad(features, ((0, 0), pads, pads))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    rows = windows.transpose(1, 2, 0, 3, 4).reshape(windows.shape[1] * windows.shape[2], -1)
    return np.asarray(rows, np.float32)


def fit_skip(
    sources: Sequence[FloatArray],
    targets: Sequence[FloatArray],
    kernel: int,
    stride: int,
    pads: tuple[int, int],
) -> Skip:
    """Ridge regression from features (C, H, W) to features (out, h, w) or (out,), one pair a picture."""
    pooled = targets[0].ndim == 1
    kernel = 1 if pooled else kernel
    size = sources[0].shape[0] * kernel * kernel + 1
    normal, right = np.zeros((size, size)), np.zeros((size, targets[0].shape[0]))
    for source, target in zip(sources, targets, strict=True):
        columns = patches(source, kernel, stride, pads, pooled=pooled).astype(np.float64)
        rows = np.concatenate([columns, np.ones((len(columns), 1))], axis=1)
        normal += rows.T @ rows
        right += rows.T @ target.reshape(len(target), -1).T
    penalty = np.full(size, RIDGE * np.trace(normal) / size)
    penalty[-1] = 0  # the bias is free
    solution = np.linalg.solve(normal + np.diag(penalty + 1e-9), right)
    weight = solution[:-1].T.reshape(-1, sources[0].shape[0], kernel, kernel)
    return Skip(weight.astype(np.float32), solution[-1].astype(np.float32), stride, pads, pooled)


def skip_graph(skip: Skip, source: str, target: str) -> GraphProto:
    """The fitted layer as nodes; pooled: mean over the picture, then 1x1, then no spatial axes."""
    weights = [
        numpy_helper.from_array(skip.weight, "exit/skip/weight"),
        numpy_helper.from_array(skip.bias, "exit/skip/bias"),
    ]
    inputs = ["exit/skip/weight", "exit/skip/bias"]
    before, after = skip.pads
    conv: dict[str, Any] = {
        "kernel_shape": skip.weight.shape[2:],
        "strides": [skip.stride] * 2,
        "pads": [before, before, after, after],
    }
    if not skip.pooled:
        nodes = [helper.make_node("Conv", [source, *inputs], [target], "exit/skip", **conv)]
    else:
        nodes = [
            helper.make_node("GlobalAveragePool", [source], ["exit/skip/mean"], "exit/skip/mean"),
            helper.make_node("Conv", ["exit/skip/mean", *inputs], ["exit/skip/out"], "exit/skip", **conv),
            helper.make_node("Flatten", ["exit/skip/out"], [target], "exit/skip/flat"),
        ]
    return helper.make_graph(nodes, "skip", [], [], weights)
