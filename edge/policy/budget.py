"""Spends a byte budget on the frames that gain most per byte."""

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from spillover.common.types import Action, Decision
from spillover.edge.link.byte_budget import Tokens, wire_bytes
from spillover.edge.link.state import PayloadOption
from spillover.edge.policy.base import UNRANKED, Context, Reason
from spillover.edge.policy.tracks import share_until

AUDITS = 0.05
"""Share of the bytes that the budget pays for that audits take at the most; audits of empty frames too."""
MOST_UNSPENT = 10.0
"""Buckets that may have overflown and still let lower ranks pass."""
WINDOW = 500
"""Number of recent frames among which a frame is ranked."""


class Rank:
    """Rank of a value among the last ones: 1 is above all of them, 0 below."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    @property
    def ordered(self) -> Sequence[float]:
        """The window in ascending order."""
        return self._sorted

    def of(self, value: float) -> tuple[float, float]:
        """Share of the window below `value`, and with what equals it; 1 and 1 in an empty window."""
        if not self._sorted:
            return 1.0, 1.0
        low, high = bisect_left(self._sorted, value), bisect_right(self._sorted, value)
        return low / len(self._sorted), high / len(self._sorted)

    def add(self, value: float) -> None:
        """Add the value to the window."""
        if len(self._order) == self._window:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]
        self._order.append(value)
        insort(self._sorted, value)


@dataclass(frozen=True, slots=True)
class RankDecision:
    """Whether a frame ranks high enough, and the numbers behind it."""

    send: bool
    rank: float
    needed_rank: float
    budget_share: float


class RankRule:
    """Send iff u >= 1 - 2 r n / b and the frame fits: u its rank by gain per byte, n tokens of a bucket b.

    r is the share of the offered bytes that the budget can pay for. A half-full bucket sends exactly the best
    r, a full one twice as many, an empty one none. Only the order of scores matters, so drift of their scale
    has no effect. Of equal values, which would all pass or none, every n-th ranks above the others, so many
    that the share holds (error diffusion).

    A bucket that begins empty counts as no larger than what has come in so far: else it would be half full
    before the best r were sent, which takes an hour's budget some minutes and a month's a day and a half. One
    that begins with bytes counts as twice as large as these, as it does where the best r are sent: a restart
    changes nothing.

    What a full bucket could not take up counts as well: so many lower ranks pass later. Values that fall once
    a frame is sent, as those of tracks do, need that: else none of the lower ones that follow would be among
    the best of a window that still holds the higher ones.
    """

    def __init__(self) -> None:
        self._rank = Rank()
        self._ties = 0.0
        self._unspent = 0.0
        self._judged_s = math.inf
        self._began: tuple[float, float] | None = None
        """When the first frame was judged, and the bytes that were there."""
        self._offered: deque[tuple[float, float]] = deque()
        self._offered_bytes = 0.0

    def judge(self, gain: float, payload_bytes: float, tokens: Tokens, now_s: float) -> RankDecision:
        """Judge one frame; call it for every frame, kept ones included."""
        value = gain / max(payload_bytes, 1.0)
        below, up_to = self._rank.of(value)
        self._rank.add(value)
        self._note(now_s, payload_bytes)
        share = self._share(tokens.refill_bytes_per_s)
        needed = 1 - 2 * share * (self._level(tokens, now_s) + self._unspent)
        rank = self._among_ties(below, up_to, needed)
        send = gain > 0 and rank >= needed and tokens.left_bytes >= payload_bytes
        self._save(tokens, now_s, payload_bytes if send else 0.0)
        return RankDecision(send, rank, needed, share)

    def _level(self, tokens: Tokens, now_s: float) -> float:
        """Share of the bucket, or of what has come in so far, that is there."""
        if not math.isfinite(tokens.bucket_bytes):
            return tokens.level
        began_s, had_bytes = self._began = self._began or (now_s, tokens.left_bytes)
        came_bytes = 2 * had_bytes + tokens.refill_bytes_per_s * (now_s - began_s)
        return min(1.0, tokens.left_bytes / max(1.0, min(tokens.bucket_bytes, came_bytes)))

    def _save(self, tokens: Tokens, now_s: float, spent_bytes: float) -> None:
        """Note what a full bucket could not take up since the last frame, and what is spent, in buckets."""
        if not math.isfinite(tokens.bucket_bytes):
            return
        since_s = max(0.0, now_s - self._judged_s)
        self._judged_s = now_s
        overflow = tokens.refill_bytes_per_s * since_s if tokens.level >= 1 else 0.0
        unspent = self._unspent + (overflow - spent_bytes) / tokens.bucket_bytes
        self._unspent = min(MOST_UNSPENT, max(0.0, unspent))

    def _among_ties(self, below: float, up_to: float, needed: float) -> float:
        """The rank of a value of which `up_to - below` of the window are equals."""
        if not below < needed < up_to:
            return below if needed >= up_to else up_to
        self._ties += (up_to - needed) / (up_to - below)
        if self._ties < 1:
            return below
        self._ties -= 1
        return up_to

    def _note(self, now_s: float, payload_bytes: float) -> None:
        self._offered.append((now_s, payload_bytes))
        self._offered_bytes += payload_bytes
        if len(self._offered) > WINDOW:
            self._offered_bytes -= self._offered.popleft()[1]

    def _share(self, refill_bytes_per_s: float) -> float:
        """Refill rate divided by the rate of offered bytes; 1 until that rate is known."""
        elapsed_s = self._offered[-1][0] - self._offered[0][0]
        offered = self._offered_bytes - self._offered[0][1]
        if elapsed_s <= 0 or offered <= 0:
            return 1.0
        return min(1.0, refill_bytes_per_s * elapsed_s / offered)


Judge = Callable[[float, float, Tokens, float], RankDecision]
"""Same signature as `RankRule.judge`: gain, bytes, tokens, seconds."""


class RankByBudget:
    """Keeps a frame that would be sent while other frames gain more per byte of the budget.

    Audits, refreshes and mode `cloud_only` are not ranked: they use what the budget has left. So that audits
    leave most of it to others, fewer frames are drawn for them: `most_drawn`.
    """

    def __init__(self, judge: Judge | None = None) -> None:
        self._judge = judge or RankRule().judge
        self._budget_share = 1.0

    def most_drawn(self) -> float:
        """The share of all frames that may be drawn at random and sent; of every frame it is the same."""
        return AUDITS * self._budget_share

    def __call__(self, decision: Decision, context: Context) -> Decision:
        """Rank the frame, and set the bytes of the budget that it needs."""
        option = _option(decision, context.link.view.options)
        size = wire_bytes(option.payload_bytes if option else 0.0)
        usual = wire_bytes(option.payload_bytes - option.extra_bytes) if option else size
        tokens = context.link.tokens
        needed = needed_bytes(option, tokens) if option else 0.0
        # A key serves the frames after it as well: it is set aside from the tokens, and each of them, this
        # one too, is ranked by what it takes itself.
        left_bytes = max(0.0, tokens.left_bytes - max(0.0, needed - usual))
        spendable = replace(tokens, left_bytes=left_bytes)
        gain = decision.expected_gain
        tracks = context.tracks if decision.inputs.get("by_tracks") else None
        if tracks is not None and math.isinf(context.since_last_offload_s):
            # As worth what serves for a minute the first frames would outrank all that follow for long.
            gain *= share_until(tracks, usual / tokens.refill_bytes_per_s)
        verdict = self._judge(gain, usual, spendable, context.now_s)
        self._budget_share = verdict.budget_share
        inputs = decision.inputs | {
            "rank": verdict.rank,
            "needed_rank": verdict.needed_rank,
            "budget_share": verdict.budget_share,
            "tokens_bytes": tokens.left_bytes,
            "bucket_bytes": tokens.bucket_bytes,
            "wire_bytes": size,
            "usual_wire_bytes": usual,
        }
        outranked = verdict.rank < verdict.needed_rank and decision.reason not in UNRANKED
        if decision.action is Action.KEEP or not outranked:
            return replace(decision, needed_bytes=needed, inputs=inputs)
        return replace(
            decision,
            action=Action.KEEP,
            reason=Reason.OUTRANKED,
            needed_bytes=needed,
            inputs=inputs,
        )


def needed_bytes(option: PayloadOption, tokens: Tokens) -> float:
    """What sending a frame in this form takes of the budget; 0 without one.

    Sizes are only learnt by encoding: forms never encoded, or estimated above the bucket, may be tried; the
    latter once it is full, and in a stream, which then pauses, at once.
    """
    size = wire_bytes(option.payload_bytes)
    if not option.measured or math.isinf(tokens.bucket_bytes):
        return 0.0
    if size > tokens.bucket_bytes and option.extra_bytes:
        return 0.0
    return min(size, tokens.bucket_bytes)


def _option(decision: Decision, options: Sequence[PayloadOption]) -> PayloadOption | None:
    """The chosen form, or the usual one."""
    by_name = {option.name: option for option in options}
    return by_name.get(decision.payload, options[0] if options else None)
