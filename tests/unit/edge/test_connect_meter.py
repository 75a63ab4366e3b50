"""Attempts to connect, meter from what gRPC tells of a channel."""

from collections import Counter

import pytest
from grpc import ChannelConnectivity as State

from spillover.edge.uplink.channel import ConnectMeter


@pytest.mark.parametrize(
    ("states", "attempts", "lost"),
    [
        ((State.IDLE,), 0, 0),
        ((State.IDLE, State.CONNECTING, State.READY), 1, 0),
        ((State.IDLE, State.READY), 1, 0),
        ((State.IDLE, State.CONNECTING, State.TRANSIENT_FAILURE), 1, 1),
        ((State.IDLE, State.TRANSIENT_FAILURE), 1, 1),
        ((State.CONNECTING, State.READY, State.IDLE, State.CONNECTING, State.READY), 2, 0),
        ((State.CONNECTING, State.TRANSIENT_FAILURE, State.READY), 2, 1),
    ],
)
def test_each_attempt_counts_once_whichever_states_are_passed_over(states, attempts, lost) -> None:
    """One that succeeds and one that fails alike."""
    counts: Counter[str] = Counter()
    meter = ConnectMeter(lambda: counts.update(["attempt"]), lambda: counts.update(["lost"]))
    for state in states:
        meter.changed(state)
    assert (counts["attempt"], counts["lost"]) == (attempts, lost)
    assert meter.failed is (states[-1] is State.TRANSIENT_FAILURE)


def test_a_channel_that_is_closed_before_its_states_were_told_has_tried_all_the_same() -> None:
    """A call was made on it, so it has connected or meant to; once, however often it is closed."""
    attempts: list[str] = []
    meter = ConnectMeter(lambda: attempts.append("attempt"), lambda: None)
    meter.called()
    meter.called()
    meter.closed()
    meter.closed()
    assert attempts == ["attempt"]


def test_calls_on_a_channel_that_is_connected_make_no_attempt() -> None:
    """Nor does closing it."""
    attempts: list[str] = []
    meter = ConnectMeter(lambda: attempts.append("attempt"), lambda: None)
    for state in (State.CONNECTING, State.READY):
        meter.changed(state)
    meter.called()
    meter.closed()
    assert attempts == ["attempt"]
