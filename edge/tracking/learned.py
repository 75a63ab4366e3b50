"""What the cloud's answers have taught: which tracks it confirms, and how long its boxes stay right."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

FORGET = 0.98
"""What an older observation weighs against the next one of its kind: about the newest fifty count."""
PRIOR_WEIGHT = 4.0
"""Observations that a prior counts for."""
NEIGHBOUR = 0.5
"""What an observation of the next bin weighs."""
PRIOR_SPAN_S = (20.0, 2.0, 4.0)
"""Before anything is known, a carried box is taken to go wrong once in so many seconds: one that the edge
sees, has just seen, and does not see."""


class Key(NamedTuple):
    """A kind of track."""

    kind: str
    seen: bool
    """Whether the edge sees it on that frame."""
    bin: int


class Count(NamedTuple):
    """How often the cloud has confirmed and denied, with older observations weighing less."""

    confirmed: float = 0.0
    denied: float = 0.0


class Span(NamedTuple):
    """For how many seconds boxes were carried from one answer to the next, and how many were wrong then."""

    carried_s: float = 0.0
    wrong: float = 0.0


NEVER = Count()
NO_SPAN = Span()


@dataclass(frozen=True, slots=True)
class Learned:
    """Counts by kind, and how long confirmed boxes stay right. Nothing in it is ever changed."""

    counts: Mapping[Key, Count] = field(default_factory=dict)
    spans: Mapping[int, Span] = field(default_factory=dict)
    """By how long ago the edge saw the track, as `unseen_bin` has it."""
    new: Span = NO_SPAN
    """Seconds between answers, and how many objects they had that had no track."""

    def observed(self, key: Key, *, confirmed: bool) -> "Learned":
        """What is known after an answer has confirmed or denied a track of this kind."""
        yes, no = self.counts.get(key, NEVER)
        count = Count(yes * FORGET + confirmed, no * FORGET + (not confirmed))
        return replace(self, counts={**self.counts, key: count})

    def survived(self, unseen: int, age_s: float, *, right: bool) -> "Learned":
        """What is known after an answer has met a box that was confirmed `age_s` before it."""
        span = self.spans.get(unseen, NO_SPAN)
        span = Span(span.carried_s * FORGET + age_s, span.wrong * FORGET + (not right))
        return replace(self, spans={**self.spans, unseen: span})

    def share(self, key: Key, prior: float) -> float:
        """Expected share of tracks of this kind that the cloud confirms; `prior` is that of unknown kinds."""
        yes, no = prior * PRIOR_WEIGHT, (1.0 - prior) * PRIOR_WEIGHT
        for at, weight in ((key.bin, 1.0), (key.bin - 1, NEIGHBOUR), (key.bin + 1, NEIGHBOUR)):
            count = self.counts.get(Key(key.kind, key.seen, at), NEVER)
            yes += weight * count.confirmed
            no += weight * count.denied
        return yes / (yes + no)

    def survival(self, unseen: int, age_s: float) -> float:
        """Expected share of the cloud's boxes that are right after this time."""
        span = self.spans.get(unseen, NO_SPAN)
        rate = (span.wrong + 1.0) / (span.carried_s + PRIOR_SPAN_S[unseen])
        return math.exp(-rate * max(0.0, age_s))

    def met(self, gap_s: float, new: int) -> "Learned":
        """What is known after an answer `gap_s` after the one before, with `new` objects without a track."""
        known, span = self.new
        return replace(self, new=Span(known * FORGET + gap_s, span * FORGET + new))

    def unknown(self, age_s: float) -> float:
        """Expected number of objects that have no track, so long after the newest answer."""
        return self.new.wrong * max(0.0, age_s) / self.new.carried_s if self.new.carried_s else 0.0

    @property
    def half_life_s(self) -> float:
        """Seconds in which half of the cloud's boxes cease to be right; infinite until one did."""
        carried_s, wrong = (sum(column) for column in zip(NO_SPAN, *self.spans.values(), strict=True))
        return math.log(2) * carried_s / wrong if wrong else math.inf
