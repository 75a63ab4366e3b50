"""What the cloud's answers have taught: which tracks it confirms, and how long its boxes stay right."""

import math
from dataclasses import dataclass, replace

FORGET = 0.98
"""What an older observation weighs against the next one of its kind: about the newest fifty count."""
BIN = 0.1
"""Width in confidence of a bin."""
AGES_S = (0.5, 2.0, 5.0)
"""Limits of the bins of the time since somebody has seen a track."""
PRIOR_SURE = (4.0, 1.0)
"""Confirmed and denied, of tracks that the cloud has confirmed before: right until proven otherwise."""
PRIOR_NEW = (1.0, 1.0)
"""The same of tracks that the edge alone has seen."""

Key = tuple[str, int]
"""Kind and bin."""


@dataclass(frozen=True, slots=True)
class Count:
    """How often the cloud has confirmed and denied, with older observations weighing less."""

    confirmed: float = 0.0
    denied: float = 0.0

    def with_one(self, *, confirmed: bool) -> "Count":
        """One more observation."""
        return Count(self.confirmed * FORGET + confirmed, self.denied * FORGET + (not confirmed))

    def share(self, prior: tuple[float, float]) -> float:
        """Expected share that is confirmed (Beta prior)."""
        yes, no = self.confirmed + prior[0], self.denied + prior[1]
        return yes / (yes + no)


@dataclass(frozen=True, slots=True)
class Learned:
    """Counts by kind and bin; and how long the cloud's boxes stayed right."""

    counts: tuple[tuple[Key, Count], ...] = ()
    """By key."""
    carried_s: float = 0.0
    """Seconds for which confirmed boxes were carried until the next answer."""
    wrong: float = 0.0
    """How many of them the next answer did not have there."""

    def observed(self, key: Key, *, confirmed: bool) -> "Learned":
        """What is known after an answer has confirmed or denied a track of this kind."""
        counts = dict(self.counts)
        counts[key] = counts.get(key, Count()).with_one(confirmed=confirmed)
        return replace(self, counts=tuple(sorted(counts.items())))

    def survived(self, age_s: float, *, right: bool) -> "Learned":
        """What is known after an answer has met a box that was confirmed `age_s` before it."""
        forget = FORGET**0.2  # many boxes an answer
        return replace(
            self, carried_s=self.carried_s * forget + age_s, wrong=self.wrong * forget + (not right)
        )

    def share(self, key: Key, prior: tuple[float, float]) -> float:
        """Expected share of tracks of this kind that the cloud confirms."""
        return dict(self.counts).get(key, Count()).share(prior)

    @property
    def half_life_s(self) -> float:
        """Seconds in which half of the cloud's boxes cease to be right; infinite until one did."""
        return math.log(2) * self.carried_s / self.wrong if self.wrong else math.inf


def age_bin(age_s: float) -> int:
    """Bin of an age, the last one for all that is older."""
    return sum(age_s > limit for limit in AGES_S)


def confidence_bin(confidence: float) -> int:
    """Bin of a confidence 0..1."""
    return min(int(confidence / BIN), int(1 / BIN) - 1)
