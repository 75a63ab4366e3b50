"""The one limit of a stop: order, deadlines, and what happens to parts that hang or fail."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from spillover.edge.runtime.parts import Ended, Part, Worker, stop_parts
from spillover.edge.runtime.process import StallDetector
from tests.support.stopping import Hang, hurrying

LIMIT_S = 600.0


def stops(ended: bool = True) -> Callable[[float], bool]:
    """A `stop` that returns at once."""
    return lambda _: ended


@given(
    shares=st.lists(st.floats(0.0, 1.0), max_size=6),
    hanging=st.sets(st.integers(0, 5)),
    unfinished=st.sets(st.integers(0, 5)),
)
def test_every_part_is_stopped_in_reverse_order_within_the_one_limit(
    shares: list[float], hanging: set[int], unfinished: set[int]
) -> None:
    """Whatever hangs or stays behind: the reverse of the start, no deadline past the limit, exact names."""
    hang = Hang()
    calls: list[tuple[int, float]] = []

    def stop(number: int) -> Callable[[float], bool]:
        def stop_one(deadline_s: float) -> bool:
            calls.append((number, deadline_s))
            if number in hanging:
                hang.wait()
            return number not in unfinished

        return stop_one

    started = [Part(str(number), share, stop(number)) for number, share in enumerate(shares)]
    left = [str(number) for number in reversed(range(len(shares))) if number in hanging | unfinished]
    try:
        assert stop_parts(started, LIMIT_S, hurrying([str(number) for number in hanging])) == left
        latest_s = time.monotonic() + LIMIT_S
        assert [number for number, _ in calls] == list(reversed(range(len(shares))))
        assert all(deadline_s <= latest_s for _, deadline_s in calls)
    finally:
        hang.release.set()


def test_a_part_has_until_its_share_of_the_limit_is_over() -> None:
    """Time that the first parts do not need is left to those after them."""
    deadlines: list[float] = []

    def stop(deadline_s: float) -> bool:
        deadlines.append(deadline_s)
        return True

    assert stop_parts([Part("sinks", 0.9, stop), Part("camera", 0.5, stop)], LIMIT_S) == []
    camera_s, sinks_s = deadlines
    assert sinks_s - camera_s == pytest.approx(0.4 * LIMIT_S)


def test_a_stop_that_fails_is_named_with_its_cause_and_the_others_go_on() -> None:
    """An error in one part's `stop` neither ends the sequence nor disappears."""

    def fail(_: float) -> bool:
        raise OSError("no such device")

    with capture_logs() as log:
        left = stop_parts([Part("sinks", 1.0, stops()), Part("camera", 0.5, fail)], LIMIT_S)
    assert left == ["camera"]
    assert [(line["part"], line["error"]) for line in log] == [("camera", "no such device")]


def test_a_thread_that_hangs_is_named_with_the_line_that_it_hangs_in() -> None:
    """The log says which part it is and where in our code: here inside `StallDetector.working`."""
    hang = Hang()

    def clock() -> float:
        hang.wait()
        return 0.0

    def body() -> None:
        with StallDetector(clock).working():
            pass

    worker = Worker("pipeline", body, lambda _: None)
    worker.start()
    assert hang.entered.wait(30)
    with capture_logs() as log:
        assert not worker.ended_by(time.monotonic())
    hang.release.set()
    [line] = log
    assert (line["log_level"], line["part"]) == ("warning", "pipeline")
    assert line["at"].startswith("spillover.edge.runtime.process:")
    assert line["at"].endswith(" working")
    assert worker.ended_by(time.monotonic() + 30)


def test_a_thread_reports_how_it_ended() -> None:
    """Its return, or the error that it raised, is given to `on_end` with its name."""
    ends: list[Ended] = []
    broken = ValueError("broken")

    def fail() -> None:
        raise broken

    for name, body in (("sound", lambda: None), ("broken", fail)):
        worker = Worker(name, body, ends.append)
        worker.start()
        assert worker.ended_by(time.monotonic() + 30)
    assert ends == [Ended("sound"), Ended("broken", broken)]
