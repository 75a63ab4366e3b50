"""The calls in flight, and what servers say about themselves."""

import threading

import pytest

from spillover.edge.link.state import BreakerPhase
from spillover.edge.uplink.call_status import LinkSignal
from spillover.edge.uplink.in_flight import MAX_PUSHBACK_S, Call, InFlight
from spillover.edge.uplink.limits import BreakerRule


class Clock:
    """Seconds that a test sets."""

    now_s = 0.0

    def __call__(self) -> float:
        """The seconds set."""
        return self.now_s


def in_flight_of(
    max_in_flight: int, clock: Clock | None = None, phases: list[BreakerPhase] | None = None
) -> InFlight:
    """With a breaker that waits half a second at least, and the longest jitter."""
    reported = phases if phases is not None else []
    return InFlight(max_in_flight, BreakerRule(), clock or Clock(), lambda: 0.999, reported.append)


def started(in_flight: InFlight, deadline_s: float = 1e9) -> Call:
    """A call in flight."""
    call = Call(deadline_s)
    in_flight.start(call)
    return call


def test_count_and_cap() -> None:
    """Calls are counted up and down against the cap."""
    in_flight = in_flight_of(2)
    call = started(in_flight)
    started(in_flight)
    in_flight.finish(call, LinkSignal.GOOD)
    assert (in_flight.state().in_flight, in_flight.state().max_in_flight) == (1, 2)
    assert not in_flight.wait_until_empty(0)


def test_two_calls_find_out_what_an_unknown_link_is_like() -> None:
    """On a slow one the others would be late too; once a call has ended, the cap is as configured."""
    in_flight = in_flight_of(8)
    calls = [started(in_flight) for _ in range(2)]
    assert in_flight.state().max_in_flight == 2
    assert not in_flight.wait_for_room(0)
    in_flight.finish(calls[0], LinkSignal.BAD)
    assert in_flight.state().max_in_flight == 8
    assert in_flight.wait_for_room(0)


def test_hints_are_kept() -> None:
    """The queue's wait is read from trailing metadata and kept until the next one."""
    in_flight = in_flight_of(1)
    in_flight.note_hints([("spillover-queue-wait-us", "1500"), ("spillover-load", "0.75")])
    in_flight.note_hints([("other", b"\xff")])
    assert in_flight.state().server_queue_wait_s == pytest.approx(0.0015)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon", b"\xff", ""])
def test_nonsense_is_no_hint(value: str | bytes) -> None:
    """A pushback that is no finite, non-negative number is passed over."""
    in_flight = in_flight_of(1)
    in_flight.note_hints([("grpc-retry-pushback-ms", value)])
    assert in_flight.state().pushback_left_s == 0


def test_pushback_is_capped() -> None:
    """No server can silence an edge for more than a minute at a time."""
    in_flight = in_flight_of(1)
    in_flight.note_hints([("grpc-retry-pushback-ms", "1e12")])
    assert 0 < in_flight.state().pushback_left_s <= MAX_PUSHBACK_S


def test_silence_opens_the_breaker_when_deadlines_pass() -> None:
    """Five calls without a word: at the fifth deadline the breaker opens, though no call has ended."""
    clock, phases = Clock(), []
    in_flight = in_flight_of(8, clock, phases)
    calls = [started(in_flight, 1.0 + n) for n in range(5)]
    clock.now_s = 4.5
    assert in_flight.state().breaker_allows
    clock.now_s = 5.5
    assert not in_flight.state().breaker_allows
    assert phases == [BreakerPhase.OPEN]
    for call in calls:
        in_flight.finish(call, LinkSignal.BAD)
    assert phases == [BreakerPhase.OPEN]


def test_an_answer_after_the_deadline_is_a_miss() -> None:
    """A link that answers, but always late, is no better than one that does not."""
    clock, phases = Clock(), []
    in_flight = in_flight_of(1, clock, phases)
    for _ in range(5):
        call = started(in_flight, clock.now_s + 1)
        clock.now_s += 2
        in_flight.finish(call, LinkSignal.GOOD)
    assert phases == [BreakerPhase.OPEN]


def test_one_good_probe_closes_it() -> None:
    """After the pause one call departs, no second beside it, and its success opens the way."""
    clock, phases = Clock(), []
    in_flight = in_flight_of(4, clock, phases)
    for _ in range(5):
        in_flight.finish(started(in_flight), LinkSignal.BAD)
    assert not in_flight.state().breaker_allows
    clock.now_s += 0.5
    probe = started(in_flight)
    assert (probe.probe, in_flight.state().breaker_allows) == (True, False)
    assert not in_flight.finish(probe, LinkSignal.GOOD)
    assert in_flight.state().breaker_allows
    assert phases == [BreakerPhase.OPEN, BreakerPhase.HALF_OPEN, BreakerPhase.CLOSED]


def test_finish_tells_a_failed_probe() -> None:
    """So that the connection can be made anew."""
    clock = Clock()
    in_flight = in_flight_of(4, clock)
    for _ in range(5):
        assert not in_flight.finish(started(in_flight), LinkSignal.BAD)
    clock.now_s += 1
    assert in_flight.finish(started(in_flight), LinkSignal.BAD)


def test_an_observer_that_is_slow_holds_up_no_other_thread() -> None:
    """While one thread reports a phase, others start and finish calls; the phases are reported in order."""
    inside, release, phases = threading.Event(), threading.Event(), []

    def report(phase: BreakerPhase) -> None:
        phases.append(phase)
        inside.set()
        assert release.wait(60)

    clock = Clock()
    in_flight = InFlight(4, BreakerRule(failure_limit=1), clock, lambda: 0.0, report)
    first = threading.Thread(target=lambda: in_flight.finish(started(in_flight), LinkSignal.BAD))
    first.start()
    assert inside.wait(60)
    clock.now_s += 1.0
    others = threading.Thread(target=lambda: in_flight.finish(started(in_flight), LinkSignal.GOOD))
    others.start()
    others.join(60)
    assert not others.is_alive()
    assert in_flight.state().breaker is BreakerPhase.CLOSED
    assert phases == [BreakerPhase.OPEN]
    release.set()
    first.join(60)
    assert phases == [BreakerPhase.OPEN, BreakerPhase.HALF_OPEN, BreakerPhase.CLOSED]


def test_an_observer_that_raises_leaves_no_call_in_flight() -> None:
    """A call whose start raised can be finished like any other."""

    def report(phase: BreakerPhase) -> None:
        if phase is BreakerPhase.HALF_OPEN:
            raise RuntimeError

    clock = Clock()
    in_flight = InFlight(4, BreakerRule(failure_limit=1), clock, lambda: 0.0, report)
    in_flight.finish(started(in_flight), LinkSignal.BAD)
    clock.now_s += 1.0
    call = Call(1e9)
    with pytest.raises(RuntimeError):
        in_flight.start(call)
    assert in_flight.state().in_flight == 1
    in_flight.finish(call, LinkSignal.NOTHING)
    assert in_flight.state().in_flight == 0
