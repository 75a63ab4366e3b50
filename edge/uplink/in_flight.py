"""What is in the air: a cap on calls, the breaker, and what the server last said about itself."""

import enum
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from spillover.edge.link.concurrency import InFlightLimit
from spillover.edge.link.state import BreakerPhase, LinkState
from spillover.edge.uplink.breaker import Breaker, BreakerRule

PUSHBACK_KEY = "grpc-retry-pushback-ms"
QUEUE_WAIT_KEY = "spillover-queue-wait-us"
LOAD_KEY = "spillover-load"
MAX_PUSHBACK_S = 60.0
"""A server may ask for quiet, not for silence."""


class LinkSignal(enum.Enum):
    """What the end of a call says of the link."""

    GOOD = "good"
    BAD = "bad"
    NOTHING = "nothing"
    """The call never departed, or the server is merely full: `grpc-retry-pushback-ms` speaks for it."""


@dataclass(slots=True, eq=False)
class Call:
    """One call in the air. Guarded by the lock of its `InFlight`."""

    deadline_s: float
    probe: bool
    missed: bool = False


class InFlight:
    """Thread-safe state behind `LinkState`.

    `clock` gives monotonic seconds, `draw` uniform numbers in [0, 1); `on_phase` hears of the breaker's
    changes, under the lock.
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
        self._breaker = Breaker(rule)
        self._clock = clock
        self._draw = draw
        self._on_phase = on_phase
        self._in_air: set[Call] = set()
        self._pushback_until_s = 0.0
        self._server_queue_wait_s = 0.0
        self._server_load = 0.0
        self._usual_s = 0.0

    def start(self, deadline_s: float) -> Call:
        """Count one call, whose answer is worth having until `deadline_s`."""
        with self._changed:
            before = self._breaker.phase
            self._turn(self._breaker.departed(self._clock()))
            is_probe = self._breaker.phase is BreakerPhase.HALF_OPEN and before is BreakerPhase.OPEN
            call = Call(deadline_s, is_probe)
            self._in_air.add(call)
            return call

    def finish(self, call: Call, link_signal: LinkSignal) -> bool:
        """Count one call less; tell whether this was a probe that failed."""
        with self._changed:
            now_s = self._clock()
            self._note_misses(now_s)
            self._in_air.discard(call)
            if not call.missed:
                self._judge(call, link_signal, now_s)
            self._changed.notify_all()
            return call.probe and (call.missed or link_signal is LinkSignal.BAD)

    def observe_latency(self, seconds: float) -> None:
        """An answer took so long from the call's departure on: moves what is usual, and the cap."""
        with self._changed:
            self._limit.answered(seconds)
            self._usual_s = seconds if not self._usual_s else 0.8 * self._usual_s + 0.2 * seconds

    @property
    def usual_s(self) -> float:
        """How long answers take; 0 when there was none yet."""
        return self._usual_s

    def state(self) -> LinkState:
        """What is known now."""
        with self._changed:
            now_s = self._clock()
            self._note_misses(now_s)
            return LinkState(
                in_flight=len(self._in_air),
                max_in_flight=self._limit.limit,
                pushback_left_s=max(0.0, self._pushback_until_s - now_s),
                server_queue_wait_s=self._server_queue_wait_s,
                server_load=self._server_load,
                breaker=self._breaker.phase,
                breaker_allows=self._breaker.allows(now_s),
            )

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until below the cap and past any pushback, at most `timeout_s` seconds."""
        limit_s = self._clock() + timeout_s
        with self._changed:
            while True:
                now = self._clock()
                quiet_s = max(0.0, self._pushback_until_s - now)
                full = len(self._in_air) >= self._limit.limit
                if now >= limit_s or not (full or quiet_s):
                    return
                self._changed.wait(limit_s - now if full else min(quiet_s, limit_s - now))

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until nothing is in the air; tell whether that came within `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_air, timeout_s)

    def note_hints(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        """Read the server's hints from trailing metadata, passing over what is not a number.

        Tells whether the server asks for quiet.
        """
        hints = {key: number for key, value in metadata if (number := _number(value)) is not None}
        with self._changed:
            self._server_queue_wait_s = hints.get(QUEUE_WAIT_KEY, self._server_queue_wait_s * 1e6) / 1e6
            self._server_load = hints.get(LOAD_KEY, self._server_load)
            if (pushback_ms := hints.get(PUSHBACK_KEY, 0.0)) > 0:
                self._pushback_until_s = self._clock() + min(pushback_ms / 1000, MAX_PUSHBACK_S)
            return pushback_ms > 0

    def _note_misses(self, now_s: float) -> None:
        """A deadline that passes in silence counts when it passes, not when the call is given up at last."""
        for call in sorted(self._in_air, key=lambda call: call.deadline_s):
            if not call.missed and now_s > call.deadline_s:
                call.missed = True
                self._judge(call, LinkSignal.BAD, now_s)

    def _judge(self, call: Call, link_signal: LinkSignal, now_s: float) -> None:
        match link_signal:
            case LinkSignal.GOOD:
                self._turn(self._breaker.succeeded())
            case LinkSignal.BAD:
                self._turn(self._breaker.failed(now_s, self._draw(), probe=call.probe))
            case LinkSignal.NOTHING:
                self._turn(self._breaker.undecided(now_s, self._draw(), probe=call.probe))

    def _turn(self, breaker: Breaker) -> None:
        changed = breaker.phase is not self._breaker.phase
        self._breaker = breaker
        if changed:
            self._on_phase(breaker.phase)


def _number(value: str | bytes) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
