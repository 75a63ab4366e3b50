"""Choose how the features of one cut are coded: the fewest bytes that keep enough of the answers."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from common.features.codec import decode_features, encode_features
from common.features.quantizer import Quantizer
from common.types import FloatArray, Prediction
from lab.split.clip import fit_distribution, optimal_clip
from lab.split.fidelity import fidelity

LEVELS = (3, 4, 5, 7, 9, 15, 31, 63)
WIDENINGS = (1.0, 1.4, 2.0)
_BYTES_SAMPLE, _QUICK_SAMPLE = 8, 16

Features = Sequence[FloatArray]
"""The tensors of one cut for one picture, without batch axis."""


@dataclass(frozen=True, slots=True)
class Coding:
    """Quantisers of a cut's tensors, the mean bytes of a frame, and what they keep of the answers."""

    quantizers: tuple[Quantizer, ...]
    feature_bytes: float
    fidelity: float


@dataclass(frozen=True, slots=True)
class Examples:
    """Calibration pictures at one cut: features, the whole network's answers, and the tail behind them."""

    features: Sequence[Features]
    whole: Sequence[Prediction]
    tail: Callable[[int, Features], Prediction]
    """Answers picture number i from its (decoded) features."""


def choose_coding(examples: Examples, max_loss: float) -> Coding | None:
    """The smallest coding whose fidelity is at least `1 - max_loss`; None when no coding in the grid is.

    More bytes keep more, nearly always: so the place where few pictures begin to be answered well enough is
    found by bisection, and from there on upwards each coding is judged on all of them. What was found is then
    refined: clips per channel, channels reordered, channels predicted; each is kept only where it saves
    bytes and the answers are as good.
    """
    by_size = [q for _, q in sorted(_sized(_grid(examples.features), examples), key=lambda one: one[0])]
    good_enough = 1 - 3 * max_loss
    first = bisect_left(by_size, good_enough, key=lambda q: _fidelity(examples, q, _QUICK_SAMPLE))
    for quantizers in by_size[first:]:
        kept = _fidelity(examples, quantizers, len(examples.features))
        if kept >= 1 - max_loss:
            found = Coding(quantizers, mean_bytes(examples.features, quantizers), kept)
            return _refined(examples, found, max_loss)
    return None


def mean_bytes(features: Sequence[Features], quantizers: Sequence[Quantizer]) -> float:
    """Mean size of a coded frame."""
    return float(np.mean([len(encode_features(tensors, quantizers)) for tensors in features]))


def coded(features: Features, quantizers: Sequence[Quantizer]) -> list[FloatArray]:
    """Features after the wire, through the real codec."""
    return decode_features(encode_features(features, quantizers), sum(t.size for t in features))


def _grid(features: Sequence[Features]) -> Iterator[tuple[Quantizer, ...]]:
    fits = [fit_distribution(np.stack(tensors)) for tensors in zip(*features, strict=True)]
    for levels in LEVELS:
        for widen in WIDENINGS:
            clips = [optimal_clip(fit, levels, widen) for fit in fits]
            yield tuple(Quantizer(levels=levels, low=low, high=high) for low, high in clips)


def _sized(
    grid: Iterator[tuple[Quantizer, ...]], examples: Examples
) -> Iterator[tuple[float, tuple[Quantizer, ...]]]:
    sample = examples.features[:_BYTES_SAMPLE]
    for quantizers in grid:
        yield mean_bytes(sample, quantizers), quantizers


def _fidelity(examples: Examples, quantizers: Sequence[Quantizer], count: int) -> float:
    answers = [examples.tail(i, coded(f, quantizers)) for i, f in enumerate(examples.features[:count])]
    return fidelity(examples.whole[: len(answers)], answers)


def _refined(examples: Examples, found: Coding, max_loss: float) -> Coding:
    for quantizers in (
        _per_channel(examples.features, found.quantizers),
        _reordered(examples.features, found.quantizers),
        tuple(msgspec.structs.replace(q, predict=True) for q in found.quantizers),
    ):
        size = mean_bytes(examples.features, quantizers)
        # A saving within the noise of the sample is not worth a longer header.
        if size < 0.99 * found.feature_bytes:
            kept = _fidelity(examples, quantizers, len(examples.features))
            if kept >= 1 - max_loss:
                found = Coding(quantizers, size, kept)
    return found


def _per_channel(features: Sequence[Features], quantizers: Sequence[Quantizer]) -> tuple[Quantizer, ...]:
    """The same levels, each channel clipped by its own distribution."""
    refined = []
    for tensors, quantizer in zip(zip(*features, strict=True), quantizers, strict=True):
        stacked = np.stack(tensors)
        widen = (quantizer.high - quantizer.low) / np.subtract(
            *optimal_clip(fit_distribution(stacked), quantizer.levels)[::-1]
        )
        clips = [
            optimal_clip(fit_distribution(stacked[:, channel]), quantizer.levels, float(widen))
            for channel in range(stacked.shape[1])
        ]
        lows, highs = (tuple(side) for side in zip(*clips, strict=True))
        refined.append(
            msgspec.structs.replace(
                quantizer, low=min(lows), high=max(highs), channel_low=lows, channel_high=highs
            )
        )
    return tuple(refined)


def _reordered(features: Sequence[Features], quantizers: Sequence[Quantizer]) -> tuple[Quantizer, ...]:
    """Each channel followed by the one most like it that is left (greedy, by correlation)."""
    refined = []
    for tensors, quantizer in zip(zip(*features, strict=True), quantizers, strict=True):
        channels = np.stack(tensors).swapaxes(0, 1).reshape(tensors[0].shape[0], -1)
        channels = channels - channels.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(channels, axis=1, keepdims=True)
        unit = channels / np.maximum(norms, 1e-12)
        likeness = unit @ unit.T
        order, left = [0], set(range(1, len(likeness)))
        while left:
            order.append(max(left, key=lambda channel: likeness[order[-1], channel]))
            left.remove(order[-1])
        refined.append(msgspec.structs.replace(quantizer, order=tuple(order)))
    return tuple(refined)
