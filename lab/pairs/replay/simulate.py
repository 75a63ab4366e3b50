"""Frames over a link trace, in simulated time: what would have been sent, and what back in time."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from spillover.common.types import Action
from spillover.edge.link.byte_budget import Budget, TokenBucket, Tokens, wire_bytes
from spillover.edge.link.estimator import PRIOR, LinkEstimator, Transfer
from spillover.edge.link.state import LinkState, LinkView, PayloadOption
from spillover.edge.policy.base import Context, Rule
from spillover.edge.policy.budget import RankByBudget
from spillover.edge.policy.chain import KEEP_ALL, ChoosePayload, EmptyRules, LinkGuard, Policy, ScoreThreshold
from spillover.edge.policy.share import Thresholds
from spillover.lab.pairs.replay.trace import LinkTrace

IN_FLIGHT = 4
"""As `uplink.max_in_flight` has it unless told otherwise."""


@dataclass(frozen=True, slots=True)
class ReplayFrame:
    """What a log tells of one frame: when it was taken, what its answer would gain, what it weighs."""

    captured_s: float
    gain: float
    payload_bytes: float
    source: str = ""
    """The picture's file, where it had one."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for every policy: seconds from capture, and the server's own time."""

    deadline_s: float = 0.5
    local_s: float = 0.03
    encode_s: float = 0.005
    server_s: float = 0.03
    give_up_after_s: float = 2.0
    """After the deadline."""


class SimulatedBudget:
    """A byte budget in simulated time."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._bucket = TokenBucket(budget, 0.0)

    def tokens(self, now_s: float) -> Tokens:
        """What is there to spend."""
        return Tokens(
            self._bucket.available(now_s), self._budget.bucket_bytes, self._budget.refill_bytes_per_s
        )

    def spend(self, size_bytes: float, now_s: float) -> bool:
        """Pay for bytes that are about to leave; False where the tokens do not cover them."""
        return self._bucket.take(size_bytes, now_s)


class Sender(Protocol):
    """Decides in simulated time, and learns how its calls ended."""

    def wants(self, frame: ReplayFrame, now_s: float, under_way: Sequence[float]) -> bool:
        """Whether to send the frame at `now_s`, with payloads of these sizes under way; a yes is acted on."""
        ...

    def heard(self, transfer: Transfer, *, answered: bool, in_time: bool) -> None:
        """A call ended or was given up."""
        ...


class Naive:
    """Sends whatever reaches the threshold while a slot is free: what routers on confidence alone do."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds

    def wants(self, frame: ReplayFrame, now_s: float, under_way: Sequence[float]) -> bool:
        """By gain alone."""
        del now_s
        passes = self._thresholds.for_frame(frame.gain).passes(frame.gain)
        return passes and len(under_way) < IN_FLIGHT

    def heard(self, transfer: Transfer, *, answered: bool, in_time: bool) -> None:
        """Learns nothing."""


class LinkAware:
    """Sends what the edge's own policy sends, with an estimator fed by the calls of the simulation.

    With a budget the rank picks among those that the thresholds would send.
    """

    def __init__(self, setting: Setting, thresholds: Thresholds, budget: Budget | None = None) -> None:
        self._setting = setting
        rules: list[Rule] = [ScoreThreshold(thresholds, EmptyRules(), _never), ChoosePayload(), LinkGuard()]
        self._policy = Policy(KEEP_ALL, [*rules, RankByBudget()] if budget else rules)
        self._budget = SimulatedBudget(budget) if budget else None
        self._link = LinkEstimator()
        self.probes = 0

    def wants(self, frame: ReplayFrame, now_s: float, under_way: Sequence[float]) -> bool:
        """Decide as the daemon does, then pay from the budget."""
        context = self._context(frame, now_s, under_way)
        decision = self._policy.decide(context)
        if decision.action is Action.KEEP:
            return False
        if self._budget and not self._budget.spend(wire_bytes(frame.payload_bytes), now_s):
            return False
        late = decision.predicted_latency_s > context.time_left_s
        self._link.tried(now_s, probe=late)
        self.probes += late
        return True

    def heard(self, transfer: Transfer, *, answered: bool, in_time: bool) -> None:
        """Feed the estimator."""
        if answered:
            self._link.answered(transfer, 0.0, self._setting.server_s, in_time=in_time)
        else:
            self._link.timed_out(transfer)

    def _context(self, frame: ReplayFrame, now_s: float, under_way: Sequence[float]) -> Context:
        estimate = self._link.estimate(now_s)
        # What is under way is before this frame on the link; of a link never used nothing is expected.
        queued_bytes = frame.payload_bytes + sum(under_way)
        latency_s = estimate.latency_s(queued_bytes, self._setting.encode_s) if estimate else math.inf
        option = PayloadOption("picture", Action.SEND_FRAME, frame.payload_bytes, latency_s, fidelity=1.0)
        view = LinkView(estimate or PRIOR, (option,), may_probe=self._link.may_probe(now_s))
        tokens = self._budget.tokens(now_s) if self._budget else Tokens()
        return Context(
            time_left_s=frame.captured_s + self._setting.deadline_s - now_s,
            link=LinkState(len(under_way), IN_FLIGHT, view=view, tokens=tokens),
            now_s=now_s,
            score=frame.gain,
        )


def _never() -> float:
    """A draw that sends no frame at random."""
    return 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy made of the frames."""

    frames: int
    sent: int
    on_time: int
    bytes_sent: float
    gain_on_time: float
    gain_offered: float
    most_bytes_in_period: float
    arrived: tuple[bool, ...]
    """Of each frame, whether the cloud's answer was there in time."""

    @property
    def on_time_share(self) -> float:
        """Share of what was sent that was back by its deadline; 1 when nothing was sent."""
        return self.on_time / self.sent if self.sent else 1.0


@dataclass(frozen=True, slots=True, order=True)
class _Call:
    """Under way until `ends_s`; `number` keeps equal ends in order."""

    ends_s: float
    number: int
    payload_bytes: float = field(compare=False)
    transfer: Transfer = field(compare=False)
    answered: bool = field(compare=False)
    in_time: bool = field(compare=False)


def simulate(
    frames: Sequence[ReplayFrame], sender: Sender, trace: LinkTrace, setting: Setting, period_s: float = 60.0
) -> Outcome:
    """Play `frames` (by capture time) over the link; payloads go one by one, answers cost no bytes."""
    link_free_s = 0.0
    pending: list[_Call] = []
    sent: list[tuple[float, float]] = []
    gain = 0.0
    arrived = [False] * len(frames)
    for number, frame in enumerate(frames):
        now = frame.captured_s + setting.local_s
        while pending and pending[0].ends_s <= now:
            call = heapq.heappop(pending)
            sender.heard(call.transfer, answered=call.answered, in_time=call.in_time)
        if not sender.wants(frame, now, [call.payload_bytes for call in pending]):
            continue
        departs = now + setting.encode_s
        through = trace.finish_s(max(departs, link_free_s), frame.payload_bytes)
        link_free_s = through
        back = through + trace.at(through).rtt_s + setting.server_s
        gives_up = frame.captured_s + setting.deadline_s + setting.give_up_after_s
        ends = min(back, gives_up)
        carried = frame.payload_bytes + sum(call.payload_bytes for call in pending)
        transfer = Transfer(ends, carried, max(0.0, ends - departs - setting.server_s))
        in_time = back <= frame.captured_s + setting.deadline_s
        call = _Call(ends, len(sent), frame.payload_bytes, transfer, back <= gives_up, in_time)
        heapq.heappush(pending, call)
        sent.append((now, frame.payload_bytes))
        if in_time:
            arrived[number] = True
            gain += frame.gain
    return Outcome(
        frames=len(frames),
        sent=len(sent),
        on_time=sum(arrived),
        bytes_sent=sum(size for _, size in sent),
        gain_on_time=gain,
        gain_offered=sum(max(0.0, frame.gain) for frame in frames),
        most_bytes_in_period=_most_in_period(sent, period_s),
        arrived=tuple(arrived),
    )


def _most_in_period(sent: Sequence[tuple[float, float]], period_s: float) -> float:
    most = total = 0.0
    first = 0
    for at, size in sent:
        total += size
        while sent[first][0] < at - period_s:
            total -= sent[first][1]
            first += 1
        most = max(most, total)
    return most
