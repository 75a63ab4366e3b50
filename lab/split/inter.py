"""Chooses how features are coded against those of earlier frames, and says what that takes and keeps.

Frames are sent at every k-th, each coded against the one that was sent before it; k is the age of the
reference. What is chosen on one half of the frames is judged on the other.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.common.features.codec import encode_features, encode_next, encode_symbols
from spillover.common.features.quantized import Quantized, quantize_features
from spillover.common.features.quantizer import Quantizer
from spillover.common.model.split import USUAL_AGE, AtAge
from spillover.common.types import Prediction
from spillover.lab.split.coding import (
    FIT_SAMPLE,
    QUICK_SAMPLE,
    SLACK,
    Examples,
    Features,
    Judge,
    grid,
    per_channel,
)
from spillover.lab.split.fidelity import fidelity

AGES = (1, 3, USUAL_AGE, 30)
LINKS, PLACES = 8, 3
"""Frames that are sent in a row, at most, the first a key that does not count; and from how many places."""
ZONES = (0.0, 0.6, 0.9, 1.2, 1.6, 2.1, 2.8)

Quantizers = tuple[Quantizer, ...]


@dataclass(frozen=True, slots=True)
class Sequences:
    """Frames at one cut, and in which order they are sent, by the age of their reference."""

    examples: Examples
    chains: Mapping[int, Sequence[Sequence[int]]]
    """Numbers of frames: each is coded against the one before it, the first of each chain against none."""

    @property
    def usual_age(self) -> int:
        """The age nearest to the usual one."""
        return min(self.chains, key=lambda age: abs(age - USUAL_AGE))


@dataclass(frozen=True, slots=True)
class InterChoice:
    """Quantisers and dead zone, and the bytes of a frame at the usual age where they were chosen."""

    quantizers: Quantizers
    dead_zone: float
    feature_bytes: float


@dataclass(frozen=True, slots=True)
class _Sent:
    """One frame of a chain: its number, its bytes, and the symbols that the cloud has of it."""

    number: int
    payload_bytes: int
    quantized: Quantized


def spaced_chains(first: int, end: int, ages: Iterable[int] = AGES) -> dict[int, list[range]]:
    """The frames of [first, end) that are sent at each age that fits, from several places on."""
    chains = {}
    for age in ages:
        links = min(LINKS, (end - first - 1) // age + 1)
        if links < 2:
            continue
        span = (links - 1) * age + 1
        spare = end - first - span
        starts = sorted({first + spare * place // (PLACES - 1) for place in range(PLACES)})
        chains[age] = [range(start, start + span, age) for start in starts]
    return chains


def choose_inter(
    sequences: Sequences,
    stills: Judge | None,
    max_loss: float,
    tried: Iterable[Quantizers] | None = None,
    limit_bytes: float = math.inf,
) -> InterChoice | None:
    """The quantisers and dead zone of the fewest bytes at the usual age with enough fidelity; None if none.

    Enough is `1 - max_loss` over the frames of all ages, and on `stills`, each coded alone, unless they are
    known to keep it. `tried` None is all levels and clips. The search is that of `choose_coding`.
    """
    features = sequences.examples.features
    if tried is None:
        sample = features[:: max(1, len(features) // FIT_SAMPLE)]
        tried = grid(sample)
    usual = sequences.chains[sequences.usual_age]
    sized = sorted(
        (
            (_mean_size(features, usual, quantizers, zone), zone, quantizers)
            for quantizers in tried
            for zone in ZONES
        ),
        key=lambda each: each[:2],
    )
    by_size = [each for each in sized if each[0] < limit_bytes * SLACK]
    judge = _ChainJudge(sequences, max_loss)
    first = bisect_left(by_size, 1, key=lambda each: judge.keeps(each[2], each[1], QUICK_SAMPLE))
    for size, zone, quantizers in by_size[first:]:
        if judge.keeps(quantizers, zone) and (stills is None or stills.fidelity(quantizers) is not None):
            found = InterChoice(quantizers, zone, size)
            found = _refined(sequences, found, judge, stills) if stills else found
            return found if found.feature_bytes < limit_bytes else None
    return None


def without_dead_zone(sequences: Sequences, quantizers: Quantizers) -> InterChoice:
    """What keeps as much as each frame alone does."""
    usual = sequences.chains[sequences.usual_age]
    return InterChoice(quantizers, 0.0, _mean_size(sequences.examples.features, usual, quantizers, 0.0))


def judge_inter(sequences: Sequences, quantizers: Quantizers, dead_zone: float) -> tuple[AtAge, ...]:
    """Bytes and fidelity at each age, by rising age."""
    examples = sequences.examples
    found = []
    for age, chains in sorted(sequences.chains.items()):
        sent = list(_followers(examples.features, chains, quantizers, dead_zone))
        answers = [examples.tail(frame.number, frame.quantized.tensors()) for frame in sent]
        kept = fidelity([examples.whole[frame.number] for frame in sent], answers)
        size = float(np.mean([frame.payload_bytes for frame in sent]))
        found.append(AtAge(frames=age, feature_bytes=round(size, 1), fidelity=round(kept, 4)))
    return tuple(found)


class _ChainJudge:
    """Judges codings on the frames of all chains but their keys."""

    def __init__(self, sequences: Sequences, max_loss: float) -> None:
        self._features = sequences.examples.features
        self._chains = [chain for chains in sequences.chains.values() for chain in chains]
        tail, whole = sequences.examples.tail, sequences.examples.whole
        numbers = [number for chain in self._chains for number in chain[1:]]

        def answer(index: int, features: Features) -> Prediction:
            return tail(numbers[index], features)

        frames = Examples([self._features[n] for n in numbers], [whole[n] for n in numbers], answer)
        self._judge = Judge(frames, max_loss)

    def keeps(self, quantizers: Quantizers, dead_zone: float, pictures: int | None = None) -> bool:
        """Whether this coding keeps enough; with `pictures`, whether those few do not rule it out."""
        kept = list(_kept(self._features, self._chains, quantizers, dead_zone))
        return self._judge.fidelity_of(lambda index: kept[index][1].tensors(), pictures) is not None


def _refined(sequences: Sequences, found: InterChoice, judge: _ChainJudge, stills: Judge) -> InterChoice:
    """With clips per channel where they save bytes: they travel with keys alone."""
    features = sequences.examples.features
    usual = sequences.chains[sequences.usual_age]
    refined = per_channel(features[:: max(1, len(features) // FIT_SAMPLE)], found.quantizers)
    size = _mean_size(features, usual, refined, found.dead_zone)
    is_smaller = size < 0.97 * found.feature_bytes
    if is_smaller and judge.keeps(refined, found.dead_zone) and stills.fidelity(refined) is not None:
        return InterChoice(refined, found.dead_zone, size)
    return found


def _mean_size(
    features: Sequence[Features],
    chains: Iterable[Sequence[int]],
    quantizers: Quantizers,
    dead_zone: float,
) -> float:
    """Mean bytes of a frame that is no key.

    A frame takes no more than a key; what a key takes is measured once a chain.
    """
    sizes = []
    for chain in chains:
        most = len(encode_features(features[chain[0]], quantizers))
        for before, after in _kept(features, [chain], quantizers, dead_zone):
            sizes.append(min(most, len(encode_symbols(after, before))))
    return float(np.mean(sizes))


def _kept(
    features: Sequence[Features], chains: Iterable[Sequence[int]], quantizers: Quantizers, dead_zone: float
) -> Iterator[tuple[Quantized, Quantized]]:
    """The reference and the symbols of each frame but the first of each chain, in order; nothing is coded."""
    for chain in chains:
        before = quantize_features(features[chain[0]], quantizers)
        for number in chain[1:]:
            after = quantize_features(features[number], quantizers, before, dead_zone)
            yield before, after
            before = after


def _followers(
    features: Sequence[Features], chains: Iterable[Sequence[int]], quantizers: Quantizers, dead_zone: float
) -> Iterator[_Sent]:
    """All frames of all chains but their first, in order, each against the one before it."""
    for chain in chains:
        reference: Quantized | None = None
        for number in chain:
            sent = encode_next(features[number], quantizers, reference, dead_zone)
            if reference is not None:
                yield _Sent(number, len(sent.data), sent.quantized)
            reference = sent.quantized
