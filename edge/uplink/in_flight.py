"""The calls in flight: their cap, the breaker that they drive, and the server's latest hints."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from spillover.edge.link.state import BreakerPhase, LinkState
from spillover.edge.uplink.call_status import LinkSignal
from spillover.edge.uplink.limits import Breaker, BreakerRule, InFlightLimit

PUSHBACK_KEY = "grpc-retry-pushback-ms"
QUEUE_WAIT_KEY = "spillover-queue-wait-us"
UNTRIED = 2
"""Calls at the same time before the first one has ended: what the link carries is not known yet, and on a
slow one more would all be late.
"""
MAX_PUSHBACK_S = 60.0
"""The longest pause that a server may ask for."""


@dataclass(slots=True, eq=False)
class Call:
    """One call, whose answer is useful until `deadline_s`. Guarded by the lock of its `InFlight`."""

    deadline_s: float
    probe: bool = False
    """The call tests whether the server can be reached again."""
    missed: bool = False
    """The deadline passed while the call was in flight; this counted as its failure."""


class _BreakerSwitch:
    """The breaker of an `InFlight`, whose lock guards everything except `notify`."""

    def __init__(
        self, rule: BreakerRule, draw: Callable[[], float], on_phase: Callable[[BreakerPhase], None]
    ) -> None:
        self.breaker = Breaker(rule)
        self._draw = draw
        self._on_phase = on_phase
        self._unreported: deque[BreakerPhase] = deque()
        self._reporting = threading.Lock()

    def start(self, now_s: float) -> bool:
        """Note the start of a call; tell whether it is a probe."""
        was_open = self.breaker.phase is BreakerPhase.OPEN
        self._become(self.breaker.started(now_s))
        return was_open and self.breaker.phase is BreakerPhase.HALF_OPEN

    def judge(self, call: Call, link_signal: LinkSignal, now_s: float) -> None:
        """Update the breaker with the end of a call."""
        match link_signal:
            case LinkSignal.GOOD:
                self._become(self.breaker.succeeded())
            case LinkSignal.BAD:
                self._become(self.breaker.failed(now_s, self._draw(), probe=call.probe))
            case LinkSignal.NOTHING:
                self._become(self.breaker.undecided(now_s, self._draw(), probe=call.probe))

    def notify(self) -> None:
        """Report new phases in order; only one thread at a time reports, also for the other threads.

        It checks the queue again after releasing the lock, because another thread may have added a phase
        meanwhile.
        """
        while self._unreported and self._reporting.acquire(blocking=False):
            try:
                while self._unreported:
                    self._on_phase(self._unreported.popleft())
            finally:
                self._reporting.release()

    def _become(self, breaker: Breaker) -> None:
        if breaker.phase is not self.breaker.phase:
            self._unreported.append(breaker.phase)
        self.breaker = breaker


class InFlight:
    """The thread-safe state behind `LinkState`.

    `clock` gives monotonic seconds, `draw` uniform numbers in [0, 1). `on_phase` receives the breaker's new
    phases outside the lock, so it may be slow without blocking other threads.
    """

    def __init__(
        self,
        max_in_flight: int,
        rule: BreakerRule,
        clock: Callable[[], float],
        draw: Callable[[], float],
        on_phase: Callable[[BreakerPhase], None],
    ) -> None:
        self._changed = threading.Condition()
        self._limit = InFlightLimit(max_in_flight, max_in_flight)
        self._switch = _BreakerSwitch(rule, draw, on_phase)
        self._clock = clock
        self._calls: set[Call] = set()
        self._tried = False
        self._pushback_until_s = 0.0
        self._server_queue_wait_s = 0.0

    def start(self, call: Call) -> None:
        """Count one call, and mark it if it is a probe."""
        with self._changed:
            call.probe = self._switch.start(self._clock())
            self._calls.add(call)
        self._switch.notify()

    def finish(self, call: Call, link_signal: LinkSignal) -> bool:
        """Remove one call from the count; tell whether it was a probe that failed."""
        with self._changed:
            now_s = self._clock()
            self._note_misses(now_s)
            self._calls.discard(call)
            self._tried = True
            if not call.missed:
                self._switch.judge(call, link_signal, now_s)
            self._changed.notify_all()
        self._switch.notify()
        return call.probe and (call.missed or link_signal is LinkSignal.BAD)

    def observe_latency(self, seconds: float) -> None:
        """Adapt the cap to one call's time from start to answer."""
        with self._changed:
            self._limit.answered(seconds)

    @property
    def usual_s(self) -> float:
        """Moving mean of the answers' latency in seconds; 0 before the first one."""
        return self._limit.usual_s

    def state(self) -> LinkState:
        """The state of the calls, the breaker and the server's hints now."""
        with self._changed:
            now_s = self._clock()
            self._note_misses(now_s)
            state = LinkState(
                in_flight=len(self._calls),
                max_in_flight=self._most(),
                pushback_left_s=max(0.0, self._pushback_until_s - now_s),
                server_queue_wait_s=self._server_queue_wait_s,
                breaker=self._switch.breaker.phase,
                breaker_allows=self._switch.breaker.allows(now_s),
            )
        self._switch.notify()
        return state

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds until below the cap and past any pushback; tell whether it is."""
        limit_s = self._clock() + timeout_s
        with self._changed:
            while True:
                now_s = self._clock()
                quiet_s = max(0.0, self._pushback_until_s - now_s)
                is_full = len(self._calls) >= self._most()
                if now_s >= limit_s or not (is_full or quiet_s):
                    return not (is_full or quiet_s)
                self._changed.wait(limit_s - now_s if is_full else min(quiet_s, limit_s - now_s))

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds until no call is in flight; tell whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._calls, timeout_s)

    def note_hints(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        """Read the server's hints from trailing metadata; tell whether it asks for a pause.

        Values that are not finite numbers of at least 0 are ignored.
        """
        hints = {key: number for key, value in metadata if (number := _number(value)) is not None}
        pushback_ms = hints.get(PUSHBACK_KEY, 0.0)
        with self._changed:
            self._server_queue_wait_s = hints.get(QUEUE_WAIT_KEY, self._server_queue_wait_s * 1e6) / 1e6
            if pushback_ms > 0:
                self._pushback_until_s = self._clock() + min(pushback_ms / 1000, MAX_PUSHBACK_S)
        return pushback_ms > 0

    def _most(self) -> int:
        return self._limit.limit if self._tried else min(UNTRIED, self._limit.limit)

    def _note_misses(self, now_s: float) -> None:
        """Count calls past their deadline as failures now, not only when they are finally abandoned."""
        for call in sorted(self._calls, key=lambda call: call.deadline_s):
            if not call.missed and now_s > call.deadline_s:
                call.missed = True
                self._switch.judge(call, LinkSignal.BAD, now_s)


def _number(value: str | bytes) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
