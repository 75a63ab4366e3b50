"""What is in the air, and what servers say about themselves."""

import pytest

from spillover.edge.link.state import BreakerPhase
from spillover.edge.uplink.breaker import BreakerRule
from spillover.edge.uplink.in_flight import MAX_PUSHBACK_S, InFlight, LinkSignal


class Clock:
    """Seconds that a test sets."""

    now_s = 0.0

    def __call__(self) -> float:
        """The seconds set."""
        return self.now_s


def flight_of(
    max_in_flight: int, clock: Clock | None = None, phases: list[BreakerPhase] | None = None
) -> InFlight:
    """A flight with a breaker that waits half a second at least, and the longest jitter."""
    heard = phases if phases is not None else []
    return InFlight(max_in_flight, BreakerRule(), clock or Clock(), lambda: 0.999, heard.append)


def test_count_and_cap() -> None:
    """Calls are counted up and down against the cap."""
    in_flight = flight_of(2)
    call = in_flight.start(1e9)
    in_flight.start(1e9)
    in_flight.finish(call, LinkSignal.GOOD)
    assert (in_flight.state().in_flight, in_flight.state().max_in_flight) == (1, 2)
    assert not in_flight.wait_until_empty(0)


def test_hints_are_kept() -> None:
    """Queue wait and load are read from trailing metadata and kept until the next ones."""
    in_flight = flight_of(1)
    in_flight.note_hints([("spillover-queue-wait-us", "1500"), ("spillover-load", "0.75")])
    in_flight.note_hints([("other", b"\xff")])
    assert in_flight.state().server_queue_wait_s == pytest.approx(0.0015)
    assert in_flight.state().server_load == 0.75


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon", b"\xff", ""])
def test_nonsense_is_no_hint(value: str | bytes) -> None:
    """A pushback that is no finite, non-negative number is passed over."""
    in_flight = flight_of(1)
    in_flight.note_hints([("grpc-retry-pushback-ms", value)])
    assert in_flight.state().pushback_left_s == 0


def test_pushback_is_capped() -> None:
    """No server can silence an edge for more than a minute at a time."""
    in_flight = flight_of(1)
    in_flight.note_hints([("grpc-retry-pushback-ms", "1e12")])
    assert 0 < in_flight.state().pushback_left_s <= MAX_PUSHBACK_S


def test_silence_opens_the_breaker_when_deadlines_pass() -> None:
    """Five calls without a word: at the fifth deadline the breaker opens, though no call has ended."""
    clock, phases = Clock(), []
    in_flight = flight_of(8, clock, phases)
    passages = [in_flight.start(deadline_s=1.0 + n) for n in range(5)]
    clock.now_s = 4.5
    assert in_flight.state().breaker_allows
    clock.now_s = 5.5
    assert not in_flight.state().breaker_allows
    assert phases == [BreakerPhase.OPEN]
    for call in passages:
        in_flight.finish(call, LinkSignal.BAD)
    assert phases == [BreakerPhase.OPEN]


def test_an_answer_after_the_deadline_is_a_miss() -> None:
    """A link that answers, but always late, is no better than one that does not."""
    clock, phases = Clock(), []
    in_flight = flight_of(1, clock, phases)
    for _ in range(5):
        call = in_flight.start(deadline_s=clock.now_s + 1)
        clock.now_s += 2
        in_flight.finish(call, LinkSignal.GOOD)
    assert phases == [BreakerPhase.OPEN]


def test_one_good_probe_closes_it() -> None:
    """After the pause one call departs, no second beside it, and its success opens the way."""
    clock, phases = Clock(), []
    in_flight = flight_of(4, clock, phases)
    for _ in range(5):
        in_flight.finish(in_flight.start(1e9), LinkSignal.BAD)
    assert not in_flight.state().breaker_allows
    clock.now_s += 0.5
    probe = in_flight.start(1e9)
    assert (probe.probe, in_flight.state().breaker_allows) == (True, False)
    assert not in_flight.finish(probe, LinkSignal.GOOD)
    assert in_flight.state().breaker_allows
    assert phases == [BreakerPhase.OPEN, BreakerPhase.HALF_OPEN, BreakerPhase.CLOSED]


def test_a_failed_probe_is_told() -> None:
    """Whoever lands a probe that failed hears it, so that the connection can be made anew."""
    clock = Clock()
    in_flight = flight_of(4, clock)
    for _ in range(5):
        assert not in_flight.finish(in_flight.start(1e9), LinkSignal.BAD)
    clock.now_s += 1
    assert in_flight.finish(in_flight.start(1e9), LinkSignal.BAD)
