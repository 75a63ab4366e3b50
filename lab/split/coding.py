"""Chooses how the features of one cut are coded: the fewest bytes with enough fidelity."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from spillover.common.features.codec import decode_features, encode_features
from spillover.common.features.quantizer import Quantizer
from spillover.common.types import FloatArray, Prediction
from spillover.lab.split.clip import fit_distribution, optimal_clip
from spillover.lab.split.fidelity import fidelity_terms, lossless_term

LEVELS = (3, 4, 5, 7, 9, 15, 31, 63)
WIDENINGS = (1.0, 1.4, 2.0)
_BYTES_SAMPLE, FIT_SAMPLE, QUICK_SAMPLE = 8, 16, 12
"""Numbers of pictures: to estimate a coding's size, to fit distributions, and to rule a coding out."""
SLACK = 1.1
"""A sample's mean size may be so much above that of all pictures."""

Features = Sequence[FloatArray]
"""The tensors of one cut for one picture, without batch axis."""


@dataclass(frozen=True, slots=True)
class Coding:
    """Quantisers of a cut's tensors, the mean bytes of a frame, and the fidelity with them."""

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


class Judge:
    """Judges codings on the pictures, and stops as soon as a coding cannot reach the wanted fidelity.

    Pictures that lost most with earlier codings come first, because most bad codings fail on one of them.
    """

    def __init__(self, examples: Examples, max_loss: float) -> None:
        self._examples = examples
        self._wanted = 1 - max_loss
        self._best = [lossless_term(whole) for whole in examples.whole]
        # At first the pictures come of which the network itself is least sure.
        self._lost = [-1e-6 * best for best in self._best]

    def fidelity(self, quantizers: Sequence[Quantizer], pictures: int | None = None) -> float | None:
        """The fidelity with these quantisers, each picture coded alone; as `fidelity_of`."""
        features = self._examples.features
        return self.fidelity_of(lambda number: coded(features[number], quantizers), pictures)

    def fidelity_of(self, decoded: Callable[[int], Features], pictures: int | None = None) -> float | None:
        """The fidelity with what becomes of each picture's features; None when it is less than wanted.

        With `pictures` it is an upper bound, from only so many: those that lose most easily.
        """
        remains, total, left = 0.0, 0.0, sum(self._best)
        for number in sorted(range(len(self._best)), key=lambda i: -self._lost[i])[:pictures]:
            answer = self._examples.tail(number, decoded(number))
            part, whole = fidelity_terms(self._examples.whole[number], answer)
            self._lost[number] += whole - part
            remains, total, left = remains + part, total + whole, left - self._best[number]
            # Even if all the others lose nothing.
            if remains + left < self._wanted * (total + left):
                return None
        return (remains + left) / (total + left) if total + left else 1.0


def choose_coding(examples: Examples, max_loss: float, limit_bytes: float = math.inf) -> Coding | None:
    """The smallest coding whose fidelity is at least `1 - max_loss`, below `limit_bytes`; None when none is.

    Fidelity nearly always rises with the bytes. So bisection finds the smallest coding that few pictures do
    not rule out, and from there upwards each is judged on all pictures. The first that passes is refined:
    clips per channel, channels reordered, channels predicted, each only where it saves bytes at enough
    fidelity.
    """
    judge = Judge(examples, max_loss)
    sized = sorted(_sized(grid(examples.features), examples), key=lambda sized: sized[0])
    by_size = [quantizers for size, quantizers in sized if size < limit_bytes * SLACK]
    first = bisect_left(by_size, 1, key=lambda q: judge.fidelity(q, QUICK_SAMPLE) is not None)
    for quantizers in by_size[first:]:
        fidelity = judge.fidelity(quantizers)
        if fidelity is not None:
            coding = Coding(quantizers, mean_bytes(examples.features, quantizers), fidelity)
            coding = _refined(examples, coding, judge)
            return coding if coding.feature_bytes < limit_bytes else None
    return None


def mean_bytes(features: Sequence[Features], quantizers: Sequence[Quantizer]) -> float:
    """Mean size of a coded frame."""
    return float(np.mean([len(encode_features(tensors, quantizers)) for tensors in features]))


def coded(features: Features, quantizers: Sequence[Quantizer]) -> list[FloatArray]:
    """Features after the wire, through the real codec."""
    return decode_features(encode_features(features, quantizers), sum(t.size for t in features))


def grid(features: Sequence[Features]) -> Iterator[tuple[Quantizer, ...]]:
    """Quantisers of all levels and clips that are tried, fitted to some of the features."""
    sample = features[:: max(1, len(features) // FIT_SAMPLE)]
    fits = [fit_distribution(np.stack(tensors)) for tensors in zip(*sample, strict=True)]
    for levels in LEVELS:
        for widen in WIDENINGS:
            clips = [optimal_clip(fit, levels, widen) for fit in fits]
            yield tuple(Quantizer(levels=levels, low=low, high=high) for low, high in clips)


def _sized(
    tried: Iterator[tuple[Quantizer, ...]], examples: Examples
) -> Iterator[tuple[float, tuple[Quantizer, ...]]]:
    sample = examples.features[:_BYTES_SAMPLE]
    for quantizers in tried:
        yield mean_bytes(sample, quantizers), quantizers


def _refined(examples: Examples, coding: Coding, judge: Judge) -> Coding:
    sample = examples.features[:: max(1, len(examples.features) // FIT_SAMPLE)]
    for quantizers in (
        per_channel(sample, coding.quantizers),
        _reordered(sample, coding.quantizers),
        tuple(msgspec.structs.replace(q, predict=True) for q in coding.quantizers),
    ):
        # A saving within the noise of the sample is not worth a longer header.
        if mean_bytes(sample, quantizers) < 0.99 * mean_bytes(sample, coding.quantizers):
            fidelity = judge.fidelity(quantizers)
            if fidelity is not None:
                coding = Coding(quantizers, mean_bytes(examples.features, quantizers), fidelity)
    return coding


def per_channel(features: Sequence[Features], quantizers: Sequence[Quantizer]) -> tuple[Quantizer, ...]:
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
