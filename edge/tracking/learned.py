"""What the cloud's answers have taught: which tracks it confirms, and how long its boxes stay right."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

FORGET = 0.98
"""What an older observation weighs against the next one of its kind: about the newest fifty count."""
PRIOR_WEIGHT = 4.0
"""Observations that a prior counts for."""
NEIGHBOUR = 0.5
"""What an observation of the next bin weighs."""
PRIOR_BOXES = 2.0
"""Carried boxes that a prior counts for."""
PRIOR_SPAN_S = (20.0, 2.0, 4.0, 0.3)
"""Before anything is known, a carried box is taken to go wrong once in so many seconds: one that the edge
sees, has just seen, does not see, and one where the edge sees another class."""
PRIOR_FAINT_SPAN_S = (0.5, 0.5, 0.5, 0.3)
"""The same of a box of which neither side is sure."""


class SpanKey(NamedTuple):
    """A kind of confirmed track."""

    unseen: int
    """How long the edge has not seen it, in bins."""
    faint: bool = False
    """Neither side is sure of it."""

    @property
    def prior_s(self) -> float:
        """Seconds until its box is wrong, before anything is known."""
        return (PRIOR_FAINT_SPAN_S if self.faint else PRIOR_SPAN_S)[self.unseen]


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
    """For how many seconds boxes were carried from one answer to the next, and how many were right then."""

    boxes: float = 0.0
    carried_s: float = 0.0
    right: float = 0.0

    def rate(self, prior_rate: float, weight: float) -> float:
        """How often in a second a box goes wrong.

        The answers tell whether a box has gone wrong by a time, not when: so it comes from the share that was
        right after the mean time, with a prior that counts for `weight` boxes.
        """
        age_s = self.carried_s / self.boxes if self.boxes else 0.0
        if age_s <= 0.0:
            return prior_rate
        right = self.right + weight * math.exp(-prior_rate * age_s)
        right = max(right, sys.float_info.min)  # after hours nothing is left of the prior
        return -math.log(right / (self.boxes + weight)) / age_s


class Gap(NamedTuple):
    """Seconds between answers, and how many objects they had that had no track."""

    between_s: float = 0.0
    objects: float = 0.0


NEVER = Count()
NO_SPAN = Span()
NO_GAP = Gap()


@dataclass(frozen=True, slots=True)
class Learned:
    """Counts by kind, and how long confirmed boxes stay right. Nothing in it is ever changed."""

    counts: Mapping[Key, Count] = field(default_factory=dict)
    spans: Mapping[SpanKey, Span] = field(default_factory=dict)
    new: Gap = NO_GAP

    def observed(self, key: Key, *, confirmed: bool) -> "Learned":
        """What is known after an answer has confirmed or denied a track of this kind."""
        yes, no = self.counts.get(key, NEVER)
        count = Count(yes * FORGET + confirmed, no * FORGET + (not confirmed))
        return replace(self, counts={**self.counts, key: count})

    def survived(self, key: SpanKey, age_s: float, *, right: bool) -> "Learned":
        """What is known after an answer has met a box that was confirmed `age_s` before it."""
        span = self.spans.get(key, NO_SPAN)
        span = Span(
            span.boxes * FORGET + 1.0, span.carried_s * FORGET + max(0.0, age_s), span.right * FORGET + right
        )
        return replace(self, spans={**self.spans, key: span})

    def share(self, key: Key, prior: float) -> float:
        """Expected share of tracks of this kind that the cloud confirms; `prior` is that of unknown kinds."""
        yes, no = prior * PRIOR_WEIGHT, (1.0 - prior) * PRIOR_WEIGHT
        for at, weight in ((key.bin, 1.0), (key.bin - 1, NEIGHBOUR), (key.bin + 1, NEIGHBOUR)):
            count = self.counts.get(Key(key.kind, key.seen, at), NEVER)
            yes += weight * count.confirmed
            no += weight * count.denied
        return yes / (yes + no)

    def survival(self, key: SpanKey, age_s: float) -> float:
        """Expected share of the cloud's boxes that are right after this time."""
        span = self.spans.get(key, NO_SPAN)
        return math.exp(-span.rate(1.0 / key.prior_s, PRIOR_BOXES) * max(0.0, age_s))

    def met(self, gap_s: float, new: int) -> "Learned":
        """What is known after an answer `gap_s` after the one before, with `new` objects without a track."""
        return replace(self, new=Gap(self.new.between_s * FORGET + gap_s, self.new.objects * FORGET + new))

    def unknown(self, age_s: float) -> float:
        """Expected number of objects that have no track, so long after the newest answer."""
        between_s, objects = self.new
        return objects * max(0.0, age_s) / between_s if between_s else 0.0

    @property
    def half_life_s(self) -> float:
        """Seconds in which half of the cloud's boxes cease to be right; infinite until one did."""
        every = Span(*(sum(column) for column in zip(NO_SPAN, *self.spans.values(), strict=True)))
        rate = every.rate(0.0, PRIOR_BOXES)
        return math.log(2) / rate if rate > 0 else math.inf
