"""Says whether a candidate model may take the place of the current one, by bets on how often it does better.

Of a frame that both have answered and the cloud too, x is the candidate's agreement with the cloud less the
current model's: 1, 0 or -1 for classes, a difference of F1 for boxes. Two fortunes begin with 1 and are
staked on each x: one wins where the candidate is not worse by the margin, the other where it is worse. If the
opposite is true a fortune grows to 1/alpha with a probability of at most alpha, however often one looks
(Ville's inequality), so a verdict may fall after any frame. Each fortune is the mean over several fixed
stakes, since the best one depends on the truth (betting martingales: Waudby-Smith and Ramdas, JRSS B 86,
2024; mixtures: Robbins, 1970). As stakes are fixed, fortunes of devices multiply stake by stake as if one had
seen all frames.
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

STAKES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
"""Shares of a fortune that are staked."""
MOST_MISSING = 0.05
"""Share of the frames without an answer of the cloud beyond which nothing is decided."""
_NOTHING = (0.0,) * len(STAKES)


class Verdict(enum.Enum):
    """What is to become of a candidate."""

    UNDECIDED = "undecided"
    PROMOTE = "promote"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a verdict needs. Device and server have the same, as fortunes of one margin alone can be joined.

    Raises:
        ValueError: a number is out of range.
    """

    margin: float = 0.02
    """By so much may the candidate agree less often and still be no worse; below 1."""
    alpha: float = 0.05
    """Probability of either error, of all stages together."""
    stages: int = 1
    """Verdicts that are to be given on the same frames, among which `alpha` is divided."""

    def __post_init__(self) -> None:
        """Refuse numbers that no bet can be made with."""
        if not (0 <= self.margin < 1 and 0 < self.alpha < 1 and self.stages >= 1):
            raise ValueError(f"no rule: margin {self.margin}, alpha {self.alpha}, {self.stages} stages")

    @property
    def needed(self) -> float:
        """Logarithm of the fortune at which a verdict falls."""
        return math.log(self.stages / self.alpha)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the frames of a trial have said so far. It only grows, and that of devices can be added up."""

    equal: int = 0
    better: int = 0
    """Frames on which the candidate agreed more with the cloud."""
    worse: int = 0
    missing: int = 0
    """Frames that the cloud was asked about in vain: they count against the candidate in either fortune."""
    promote: tuple[float, ...] = _NOTHING
    """By stake, the logarithm of the fortune that wins where the candidate is not worse by the margin."""
    abort: tuple[float, ...] = _NOTHING
    """Likewise, where it is worse."""

    @property
    def frames(self) -> int:
        """All that were judged."""
        return self.equal + self.better + self.worse + self.missing

    def after(self, difference: float | None, margin: float) -> "Evidence":
        """With one more frame, of this x in -1..1; None: the cloud did not answer."""
        low, high = (-1.0, 1.0) if difference is None else (difference, difference)
        seen = Evidence(
            equal=int(difference == 0),
            better=int(difference is not None and difference > 0),
            worse=int(difference is not None and difference < 0),
            missing=int(difference is None),
            promote=staked_on_no_worse(low, margin),
            abort=staked_on_worse(high),
        )
        return self + seen

    def __add__(self, other: "Evidence") -> "Evidence":
        """Of both together; they must be of one margin."""
        return Evidence(
            self.equal + other.equal,
            self.better + other.better,
            self.worse + other.worse,
            self.missing + other.missing,
            tuple(map(sum, zip(self.promote, other.promote, strict=True))),
            tuple(map(sum, zip(self.abort, other.abort, strict=True))),
        )

    def verdict(self, rule: Rule) -> Verdict:
        """What follows from it; undecided while too many answers are missing."""
        if self.missing > MOST_MISSING * self.frames:
            return Verdict.UNDECIDED
        if fortune(self.abort) >= rule.needed:
            return Verdict.ABORT
        return Verdict.PROMOTE if fortune(self.promote) >= rule.needed else Verdict.UNDECIDED


def staked_on_no_worse(difference: float, margin: float) -> tuple[float, ...]:
    """By stake, what one frame adds to the logarithm of the fortune against "worse by the margin"."""
    return tuple(math.log1p(stake / (1 - margin) * (difference + margin)) for stake in STAKES)


def staked_on_worse(difference: float) -> tuple[float, ...]:
    """By stake, what one frame adds to the logarithm of the fortune against "no worse at all"."""
    return tuple(math.log1p(-stake * difference) for stake in STAKES)


def fortune(logarithms: Sequence[float]) -> float:
    """Logarithm of the mean over the stakes."""
    most = max(logarithms)
    return most + math.log(math.fsum(math.exp(one - most) for one in logarithms) / len(logarithms))
