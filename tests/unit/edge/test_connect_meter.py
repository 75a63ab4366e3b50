"""Attempts to connect, counted from what gRPC tells of a channel."""

from collections import Counter

import pytest
from grpc import ChannelConnectivity as State

from spillover.edge.uplink.connect_meter import ConnectMeter


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
    told: Counter[str] = Counter()
    counted = ConnectMeter(lambda: told.update(["attempt"]), lambda: told.update(["lost"]))
    for state in states:
        counted.changed(state)
    assert (told["attempt"], told["lost"]) == (attempts, lost)
    assert counted.failed is (states[-1] is State.TRANSIENT_FAILURE)


def test_a_channel_that_is_closed_before_its_states_were_told_has_tried_all_the_same() -> None:
    """A call was made on it, so it has connected or meant to; once, however often it is closed."""
    told: list[str] = []
    counted = ConnectMeter(lambda: told.append("attempt"), lambda: None)
    counted.called()
    counted.called()
    counted.closed()
    counted.closed()
    assert told == ["attempt"]


def test_calls_on_a_channel_that_is_connected_make_no_attempt() -> None:
    """Nor does closing it."""
    told: list[str] = []
    counted = ConnectMeter(lambda: told.append("attempt"), lambda: None)
    for state in (State.CONNECTING, State.READY):
        counted.changed(state)
    counted.called()
    counted.closed()
    assert told == ["attempt"]
