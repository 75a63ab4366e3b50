"""What is in the air, and what servers say about themselves."""

import pytest

from edge.uplink.flight import MAX_PUSHBACK_S, Flight


def test_count_and_cap() -> None:
    """Calls are counted up and down against the cap."""
    flight = Flight(2)
    flight.take_off()
    flight.take_off()
    flight.land()
    assert (flight.state().in_flight, flight.state().max_in_flight) == (1, 2)
    assert not flight.wait_until_empty(0)


def test_hints_are_kept() -> None:
    """Queue wait and load are read from trailing metadata and kept until the next ones."""
    flight = Flight(1)
    flight.note_hints([("spillover-queue-wait-us", "1500"), ("spillover-load", "0.75")])
    flight.note_hints([("other", b"\xff")])
    assert flight.state().server_queue_wait_s == pytest.approx(0.0015)
    assert flight.state().server_load == 0.75


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon", b"\xff", ""])
def test_nonsense_is_no_hint(value: str | bytes) -> None:
    """A pushback that is no finite, non-negative number is passed over."""
    flight = Flight(1)
    flight.note_hints([("grpc-retry-pushback-ms", value)])
    assert flight.state().pushback_left_s == 0


def test_pushback_is_capped() -> None:
    """No server can silence an edge for more than a minute at a time."""
    flight = Flight(1)
    flight.note_hints([("grpc-retry-pushback-ms", "1e12")])
    assert 0 < flight.state().pushback_left_s <= MAX_PUSHBACK_S
