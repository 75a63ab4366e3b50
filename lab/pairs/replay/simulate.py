"""Frames over a link trace, in simulated time: what would have been sent, and what back in time."""

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from spillover.common.types import Action
from spillover.edge.config import PayloadKind
from spillover.edge.link.byte_budget import Budget, TokenBucket, Tokens, wire_bytes
from spillover.edge.link.estimator import Upload
from spillover.edge.link.payload_costs import PayloadCost, PayloadCostModel
from spillover.edge.payload.encoder import PICTURE
from spillover.edge.policy.base import Context, Rule, waits_after
from spillover.edge.policy.budget import RankByBudget
from spillover.edge.policy.chain import KEEP_ALL, EmptyRules, Policy, ScoreThreshold
from spillover.edge.policy.forms import ChoosePayload
from spillover.edge.policy.guard import LinkGuard
from spillover.edge.policy.share import Thresholds
from spillover.edge.policy.tracks import useful_s
from spillover.edge.tracking.stage import TrackSummary
from spillover.edge.uplink.call_status import LinkSignal
from spillover.edge.uplink.in_flight import Call, InFlight
from spillover.edge.uplink.limits import BreakerRule
from spillover.lab.pairs.replay.trace import LinkTrace

IN_FLIGHT = 8
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
    max_in_flight: int = IN_FLIGHT


class SimulatedBudget:
    """A byte budget in simulated time, which begins with `left_bytes` in its bucket."""

    def __init__(self, budget: Budget, left_bytes: float = 0.0) -> None:
        self._budget = budget
        self._bucket = TokenBucket(budget, 0.0, left_bytes)

    def tokens(self, now_s: float) -> Tokens:
        """What is there to spend."""
        return Tokens(
            self._bucket.available(now_s), self._budget.bucket_bytes, self._budget.refill_bytes_per_s
        )

    def spend(self, size_bytes: float, now_s: float) -> bool:
        """Pay for bytes that are about to leave; False where the tokens do not cover them."""
        return self._bucket.take(size_bytes, now_s)


@dataclass(slots=True, eq=False)
class SimulatedCall:
    """One call: when it departs, and when and how it ends."""

    frame: ReplayFrame
    departs_s: float
    ends_s: float
    server_s: float
    answered: bool
    in_time: bool

    @property
    def network_s(self) -> float:
        """As the edge measures it: the whole time less the server's."""
        return max(0.0, self.ends_s - self.departs_s - self.server_s)


class Sender(Protocol):
    """Decides in simulated time, and learns how its calls ended."""

    def wants(self, frame: ReplayFrame, now_s: float, in_flight: int) -> bool:
        """Whether to send the frame at `now_s`, with so many calls in flight; a yes is acted on."""
        ...

    def departed(self, call: SimulatedCall) -> None:
        """The frame of the last yes has left."""
        ...

    def ended(self, call: SimulatedCall) -> None:
        """A call was answered or given up, at `call.ends_s`."""
        ...


class Naive:
    """Sends whatever reaches the threshold while a slot is free: what routers on confidence alone do."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds

    def wants(self, frame: ReplayFrame, now_s: float, in_flight: int) -> bool:
        """By gain alone."""
        del now_s
        passes = self._thresholds.for_frame(frame.gain).passes(frame.gain)
        return passes and in_flight < IN_FLIGHT

    def departed(self, call: SimulatedCall) -> None:
        """Needs no note."""

    def ended(self, call: SimulatedCall) -> None:
        """Learns nothing."""


class LinkAware:
    """Sends what an edge sends: its policy, link estimate, in-flight cap and breaker, on a simulated clock.

    With a budget the rank picks among those that the thresholds would send. With `tracks`, of a camera by the
    age of the newest frame sent, frames are sent for what their answers are worth to them, late ones too.
    The bucket begins half full, as ranks keep it: a log is a piece of a long run. `from_empty` begins
    without, as a device does, so that no more is spent than the budget brings in.
    """

    def __init__(
        self,
        setting: Setting,
        thresholds: Thresholds,
        budget: Budget | None = None,
        tracks: Callable[[float], TrackSummary] | None = None,
        *,
        from_empty: bool = False,
    ) -> None:
        self.setting = setting
        self._tracks = tracks
        self._sent_s = -math.inf
        self._now_s = 0.0
        score = ScoreThreshold(thresholds, EmptyRules(), _never, by_tracks=tracks is not None)
        rules: list[Rule] = [score, ChoosePayload(), LinkGuard()]
        self._policy = Policy(KEEP_ALL, [*rules, RankByBudget()] if budget else rules)
        held = 0.0 if from_empty or budget is None else budget.bucket_bytes / 2
        self._budget = SimulatedBudget(budget, held) if budget else None
        usual = PayloadCost(Action.SEND_FRAME, _FIRST_GUESS_BYTES, setting.encode_s, setting.server_s, 1.0)
        self._costs = PayloadCostModel({PICTURE: usual}, PayloadKind.PICTURE, self._clock)
        draw = random.Random(0).random  # noqa: S311 - spreads probes, guards nothing
        self._calls = InFlight(setting.max_in_flight, BreakerRule(), self._clock, draw, lambda _: None)
        self._useful_until_s = 0.0
        self._waits = False
        self._under_way: dict[SimulatedCall, tuple[Call, Upload]] = {}
        self.decision = KEEP_ALL
        """The last one."""

    def wants(self, frame: ReplayFrame, now_s: float, in_flight: int) -> bool:
        """Decide as the daemon does, encode, and pay from the budget."""
        del in_flight  # `InFlight` counts them
        self._now_s = now_s
        calls = self._calls.state()
        view = self._costs.view(calls.server_queue_wait_s, in_flight=calls.in_flight)
        since_s = frame.captured_s - self._sent_s
        self.decision = self._policy.decide(
            Context(
                time_left_s=frame.captured_s + self.setting.deadline_s - now_s,
                link=replace(calls, view=view, tokens=self._tokens()),
                now_s=now_s,
                score=frame.gain,
                since_last_offload_s=since_s,
                tracks=self._tracks(since_s) if self._tracks else None,
                waits=self._waits,
                late_window_s=self.setting.give_up_after_s,
            )
        )
        self._waits = waits_after(self.decision, before=self._waits)
        if self.decision.action is Action.KEEP:
            return False
        self._useful_until_s = now_s + self._useful_s(frame, now_s)
        self._now_s = now_s + self.setting.encode_s
        size = round(frame.payload_bytes)
        is_too_large = self._costs.is_too_large(PICTURE, size, self._useful_until_s - self._now_s)
        self._costs.made(PICTURE, size, self.setting.encode_s)
        if is_too_large:
            return False
        return self._budget is None or self._budget.spend(wire_bytes(frame.payload_bytes), now_s)

    def _useful_s(self, frame: ReplayFrame, now_s: float) -> float:
        """How long from now on the frame's answer is of use."""
        tracks = self._tracks(frame.captured_s - self._sent_s) if self._tracks else None
        left_s = frame.captured_s + self.setting.deadline_s - now_s
        return useful_s(tracks, left_s, self.setting.give_up_after_s)

    def departed(self, call: SimulatedCall) -> None:
        """Note that the frame is on the link."""
        self._now_s = call.departs_s
        self._sent_s = call.frame.captured_s
        started = Call(self._useful_until_s)
        self._calls.start(started)
        size = round(call.frame.payload_bytes)
        upload = self._costs.departed(PICTURE, size, started.deadline_s - call.departs_s)
        self._under_way[call] = started, upload

    def ended(self, call: SimulatedCall) -> None:
        """Learn from the answer, or from its absence."""
        self._now_s = call.ends_s
        started, upload = self._under_way.pop(call)
        if call.answered:
            in_time = call.ends_s <= started.deadline_s
            self._costs.answered(PICTURE, upload, call.network_s, call.server_s, in_time=in_time)
            self._calls.observe_latency(call.ends_s - call.departs_s)
        else:
            self._costs.timed_out(upload, call.ends_s - call.departs_s)
        self._costs.landed(upload)
        self._calls.finish(started, LinkSignal.GOOD if call.answered else LinkSignal.BAD)

    def _clock(self) -> float:
        return self._now_s

    def _tokens(self) -> Tokens:
        return self._budget.tokens(self._now_s) if self._budget else Tokens()


_FIRST_GUESS_BYTES = 50_000.0


def _never() -> float:
    """A draw that sends no frame at random."""
    return 1.0


class Simulation:
    """Frames of one sender over one link, in order of capture; payloads go one by one, answers cost no bytes.

    `trace` and `server_s` may be changed between frames.
    """

    def __init__(self, sender: Sender, trace: LinkTrace, setting: Setting) -> None:
        self.trace = trace
        self.server_s = setting.server_s
        self._sender = sender
        self.setting = setting
        self._free_s = 0.0
        self._pending: list[tuple[float, int, SimulatedCall]] = []
        self._sent = 0

    def offer(self, frame: ReplayFrame) -> SimulatedCall | None:
        """Let the sender decide on the frame; the call, if it is sent."""
        setting, now_s = self.setting, frame.captured_s + self.setting.local_s
        while self._pending and self._pending[0][0] <= now_s:
            self._sender.ended(heapq.heappop(self._pending)[2])
        if not self._sender.wants(frame, now_s, len(self._pending)):
            return None
        departs_s = now_s + setting.encode_s
        self._free_s = self.trace.finish_s(max(departs_s, self._free_s), frame.payload_bytes)
        back_s = self._free_s + self.trace.at(self._free_s).rtt_s + self.server_s
        deadline_s = frame.captured_s + setting.deadline_s
        gives_up_s = deadline_s + setting.give_up_after_s
        ends_s = min(back_s, gives_up_s)
        call = SimulatedCall(
            frame, departs_s, ends_s, self.server_s, back_s <= gives_up_s, back_s <= deadline_s
        )
        heapq.heappush(self._pending, (ends_s, self._sent, call))
        self._sent += 1
        self._sender.departed(call)
        return call


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy made of the frames."""

    frames: int
    sent: int
    on_time: int
    bytes_sent: float
    bytes_on_time: float
    gain_on_time: float
    gain_offered: float
    most_bytes_in_period: float
    arrived: tuple[bool, ...]
    """Of each frame, whether the cloud's answer was there in time."""

    @property
    def on_time_share(self) -> float:
        """Share of what was sent that was back by its deadline; 1 when nothing was sent."""
        return self.on_time / self.sent if self.sent else 1.0


def simulate(
    frames: Sequence[ReplayFrame], sender: Sender, trace: LinkTrace, setting: Setting, period_s: float = 60.0
) -> Outcome:
    """Play `frames` (by capture time) over the link."""
    simulation = Simulation(sender, trace, setting)
    calls = [simulation.offer(frame) for frame in frames]
    sent = [call for call in calls if call is not None]
    in_time = [call.frame for call in sent if call.in_time]
    return Outcome(
        frames=len(frames),
        sent=len(sent),
        on_time=len(in_time),
        bytes_sent=sum(call.frame.payload_bytes for call in sent),
        bytes_on_time=sum(frame.payload_bytes for frame in in_time),
        gain_on_time=sum(frame.gain for frame in in_time),
        gain_offered=sum(max(0.0, frame.gain) for frame in frames),
        most_bytes_in_period=_most_in_period(sent, period_s),
        arrived=tuple(call is not None and call.in_time for call in calls),
    )


def in_time_for_one_who_knows(
    frames: Sequence[ReplayFrame], trace: LinkTrace, setting: Setting
) -> list[ReplayFrame]:
    """What an ideal sender sends: in order, each frame that the link will have back in time."""
    free_s, sent = 0.0, []
    for frame in frames:
        departs_s = frame.captured_s + setting.local_s + setting.encode_s
        through_s = trace.finish_s(max(departs_s, free_s), frame.payload_bytes)
        back_s = through_s + trace.at(through_s).rtt_s + setting.server_s
        if back_s <= frame.captured_s + setting.deadline_s:
            free_s = through_s
            sent.append(frame)
    return sent


def _most_in_period(calls: Sequence[SimulatedCall], period_s: float) -> float:
    most = total = 0.0
    first = 0
    for call in calls:
        total += call.frame.payload_bytes
        while calls[first].departs_s < call.departs_s - period_s:
            total -= calls[first].frame.payload_bytes
            first += 1
        most = max(most, total)
    return most
