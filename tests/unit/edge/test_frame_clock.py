"""Frames that were captured before the clock was set get their time corrected once it is."""

import sqlite3
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from spillover.edge.camera.camera import Camera
from spillover.edge.camera.source import Picture
from spillover.edge.config import CameraConfig, Pace
from spillover.edge.results.delivery import DeliveryAck, Event
from spillover.edge.runtime.frame_clock import _MAX_KEPT, JUMP_S, FrameClock
from spillover.edge.sinks.record import record_encoder
from spillover.edge.sinks.sqlite import SqliteSink
from spillover.edge.telemetry.frame_events import FrameEvents
from spillover.edge.telemetry.metrics import Metrics
from tests.support.edge_values import frame, result

YEARS_S = 1e8


class Clocks:
    """A wall clock that a test sets, and a steady one."""

    def __init__(self, unix_s=1.0e9):
        self.steady_s, self.offset_s = 50.0, unix_s - 50.0

    def wall(self):
        """The time that the device believes."""
        return self.steady_s + self.offset_s

    def steady(self):
        """Seconds that nobody sets."""
        return self.steady_s

    def clock(self, boot_id="b"):
        """A frame clock on these."""
        return FrameClock(boot_id, self.wall, self.steady)


def result_of(sequence, captured_unix_s, boot_id="b"):
    """A result of a frame with this number and time."""
    return replace(result(f"cam-{boot_id}-{sequence}"), sequence=sequence, captured_unix_s=captured_unix_s)


def test_results_of_frames_from_before_are_corrected_and_later_ones_are_not():
    """By what the clock was set, however much later the result comes."""
    clocks = Clocks()
    clock = clocks.clock()
    before = clock.stamp()
    clocks.steady_s += 10.0
    clocks.offset_s += YEARS_S
    after = clock.stamp()
    assert (before, after) == ((0, 1.0e9), (1, 1.0e9 + YEARS_S + 10.0))
    assert clock.corrected(result_of(*before)).captured_unix_s == 1.0e9 + YEARS_S
    assert clock.corrected(result_of(*after)).captured_unix_s == after[1]


def test_frames_of_an_earlier_run_stay_as_they_are():
    """Nobody knows how wrong the clock was then."""
    clocks = Clocks()
    clock = clocks.clock()
    clock.stamp()
    clocks.offset_s += YEARS_S
    clock.look()
    assert clock.corrected(result_of(0, 5.0, boot_id="older")).captured_unix_s == 5.0


def test_a_clock_that_is_only_trimmed_is_not_set():
    """Small steps and a slow drift, as of a time server all day long: no event, no correction."""
    clocks, told = Clocks(), []
    clock = clocks.clock()
    clock.on_set = told.append
    for _ in range(100):
        clocks.steady_s += 1.0
        clocks.offset_s += JUMP_S / 2
        _, now_unix_s = clock.stamp()
        assert now_unix_s == clocks.wall()
    assert clock.corrected(result_of(0, 7.0)).captured_unix_s == 7.0
    assert told == []


def test_sleep_is_no_jump():
    """The wall clock runs on while the device sleeps, and so does the steady one."""
    clocks, told = Clocks(), []
    clock = clocks.clock()
    clock.on_set = told.append
    clocks.steady_s += 8 * 3600.0
    clock.look()
    assert told == []


@given(st.lists(st.sampled_from(["frame", "forward", "back", "wait"]), max_size=60))
def test_whatever_happens_a_frame_has_the_time_of_the_last_setting(steps):
    """After any order of frames and settings each result is as if the clock had been right all the time."""
    clocks = Clocks()
    clock = clocks.clock()
    taken = []
    for step in steps:
        clocks.steady_s += 1.0
        match step:
            case "frame":
                taken.append((clocks.steady_s, *clock.stamp()))
            case "forward":
                clocks.offset_s += 1000.0
            case "back":
                clocks.offset_s -= 700.0
            case _:
                clock.look()
    clock.look()
    for at_s, number, stamped_unix_s in taken:
        corrected = clock.corrected(result_of(number, stamped_unix_s)).captured_unix_s
        assert abs(corrected - (at_s + clocks.offset_s)) < 1e-3


def test_what_is_remembered_is_bounded():
    """A clock that is set again and again takes no more memory."""
    clocks = Clocks()
    clock = clocks.clock()
    for _ in range(3 * _MAX_KEPT):
        clocks.offset_s += 100.0
        clock.stamp()
    assert len(clock._sets) == _MAX_KEPT


def test_the_event_comes_after_what_it_corrects_and_before_what_is_right():
    """Whoever applies events in the order of the lines has every time right; a sink that cannot, is told."""
    clocks, lines = Clocks(), []
    clock = clocks.clock()
    events = FrameEvents(Metrics(), lambda item: lines.append(item) or DeliveryAck(0), clock)
    first, second = clock.stamp(), clock.stamp()
    events.result(result_of(*first))
    clocks.offset_s += YEARS_S
    clock.look()
    events.result(result_of(*second))
    written, told, late = lines
    assert written.captured_unix_s == first[1]
    assert isinstance(told, Event)
    assert told.fields["shift_s"] == YEARS_S
    assert told.fields["to_sequence"] == 1
    assert late.captured_unix_s == second[1] + YEARS_S


def test_rows_of_sqlite_are_corrected(tmp_path):
    """Those of this run up to the frame, by each setting; those of another run and right ones stay."""
    clocks = Clocks()
    clock = clocks.clock()
    sink = SqliteSink(str(tmp_path / "r.db"), record_encoder(("a", "b")), 1e6, 10**8)

    def put(item):
        (sink.tell if isinstance(item, Event) else sink.write)(item)
        return DeliveryAck(0)

    events = FrameEvents(Metrics(), put, clock)
    events.result(result_of(0, 1.0e9, boot_id="older"))
    right = []
    for shift_s in (YEARS_S, -3600.0, 0.0):
        for _ in range(2):
            clocks.steady_s += 2.0
            right.append(clocks.steady_s)
            events.result(result_of(*clock.stamp()))
        clocks.offset_s += shift_s
        clock.look()
    sink.flush()
    sink.close()
    db = sqlite3.connect(tmp_path / "r.db")
    rows = db.execute(
        "select captured_unix_s, json_extract(record, '$.captured_unix_s') from results "
        "where frame_id like 'cam-b-%' order by frame_id"
    ).fetchall()
    older = db.execute("select captured_unix_s from results where frame_id like '%older%'").fetchall()
    db.close()
    expected = [at_s + clocks.offset_s for at_s in right]
    assert [row[0] for row in rows] == [row[1] for row in rows] == expected
    assert older == [(1.0e9,)]


class Still:
    """Pictures without end."""

    fps, live = None, False

    def read(self):
        """A grey one."""
        return Picture(frame().image, 0.0)

    def rewind(self):
        """It never ends."""

    def close(self):
        """Nothing is open."""


def test_a_frame_that_waited_while_the_clock_was_set_has_the_right_time():
    """At pace `fast` its time is that of its turn, which may be after the setting: not corrected twice."""
    clocks = Clocks()
    clock = clocks.clock()
    events = FrameEvents(Metrics(), lambda _: DeliveryAck(0), clock)
    config = CameraConfig(source="x", pace=Pace.FAST, max_frames=2)
    camera = Camera(Still(), config, "b", events, clock)
    camera.run()
    early = camera.poll()
    clocks.offset_s += YEARS_S
    late = camera.poll()
    times = [clock.corrected(result_of(one.sequence, one.captured_unix_s)) for one in (early, late)]
    assert [one.captured_unix_s for one in times] == [clocks.wall()] * 2
    assert [one.sequence for one in (early, late)] == [0, 1]
