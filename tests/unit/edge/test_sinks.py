"""Sinks: what a record holds, and that a slow or failing sink costs results, never frames."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from spillover.common.errors import ConfigError
from spillover.common.types import Classification, Result, SeenBy, TrackMark
from spillover.edge.config import MqttConfig
from spillover.edge.results.delivery import DeliveryAck, Event, EventKind
from spillover.edge.runtime.queues import WhenFull
from spillover.edge.sinks.jsonl import JsonLinesSink
from spillover.edge.sinks.outlet import MAX_UNFLUSHED, Outlet
from spillover.edge.sinks.outlets import Outlets
from spillover.edge.sinks.record import Record, record_encoder
from spillover.edge.tracking.steps import TrackStep
from spillover.edge.tracking.values import Box, Motion, StepInputs, TrackerState
from tests.support.edge_values import detections, result
from tests.support.serving import eventually
from tests.support.sinks import MemorySink
from tests.support.stopping import wait_for_thread

ENCODE = record_encoder(["cat", "dog"])


def test_classification_record() -> None:
    """A record names frame, answer, model, times and decision; classes carry labels, best five only."""
    ten = Classification(np.arange(10, dtype=np.int32), np.linspace(0.5, 0.1, 10).astype(np.float32))
    record = json.loads(ENCODE(replace(result(), prediction=ten)))
    assert record["frame_id"] == "f"
    assert record["answered_by"] == "edge"
    assert record["model"] == {"name": "small", "version": "1"}
    assert record["classes"][1] == {"class_id": 1, "probability": pytest.approx(0.455556), "label": "dog"}
    assert record["classes"][2]["label"] is None
    assert len(record["classes"]) == 5
    assert record["boxes"] is None
    assert record["timings"]["infer_s"] == 0.01
    assert record["decision"]["action"] == "keep"
    assert record["decision"]["inputs"] == {"score": 0.3}


def test_detection_record() -> None:
    """Boxes carry corners, confidence and label; no boxes is an empty list, not null."""
    record = json.loads(ENCODE(replace(result(), prediction=detections(0.9, 0.8))))
    assert record["boxes"][0] == {
        "xyxy": [1, 2, 3, 4],
        "confidence": pytest.approx(0.9),
        "class_id": 0,
        "label": "cat",
        "track_id": None,
        "confirmed_by": None,
        "age_s": None,
    }
    assert record["classes"] is None
    assert json.loads(ENCODE(replace(result(), prediction=detections())))["boxes"] == []


def test_a_box_says_which_object_it_shows() -> None:
    """Number, who confirmed it and when; only a sink with every input gets what made the tracks."""
    inputs = StepInputs(1.5, 64, 48, (Box(1, 2, 3, 4, 0.25, 0),), motions=(Motion(0.5, -1.0),))
    step = TrackStep(7, inputs, TrackerState(0.5))
    tracks = (TrackMark(12, SeenBy.CLOUD, 0.4), TrackMark(13, SeenBy.EDGE, 0.0))
    tracked = replace(result(), prediction=detections(0.9, 0.8), tracks=tracks, step=step)
    short = json.loads(record_encoder(("cat",), inputs=False)(tracked))
    marks = [(box["track_id"], box["confirmed_by"], box["age_s"]) for box in short["boxes"]]
    assert marks == [(12, "cloud", 0.4), (13, "edge", 0.0)]
    assert "tracking" not in short
    full = msgspec.json.decode(ENCODE(tracked), type=Record)
    assert full.tracking == step.as_record()


def test_record_reads_back() -> None:
    """A line decodes into the same structure, decision and timings included."""
    record = msgspec.json.decode(ENCODE(result()), type=Record)
    assert record.decision == result().decision
    assert record.timings == result().timings


def test_record_has_the_keys_that_are_read_back() -> None:
    """What is written and the structure that describes it name the same keys, in the same order."""
    assert tuple(json.loads(ENCODE(result()))) == Record.__struct_fields__


def test_lines_are_appended(tmp_path: Path) -> None:
    """Each result is one line, and a second run appends to the first."""
    path = tmp_path / "out.jsonl"
    for _ in range(2):
        sink = JsonLinesSink(str(path), ENCODE)
        sink.write(result("a"))
        sink.write(result("b"))
        sink.flush()
        sink.close()
    assert [json.loads(line)["frame_id"] for line in path.read_text().splitlines()] == ["a", "b"] * 2


def test_unwritable_path_is_named(tmp_path: Path) -> None:
    """A file that can never be opened, here a folder, is a configuration error that names it."""
    with pytest.raises(ConfigError, match=tmp_path.name):
        JsonLinesSink(str(tmp_path), ENCODE)


class StuckSink(MemorySink):
    """Blocks in `write` until released; then fails as long as `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.release = threading.Event()
        self.broken = False

    def write(self, result: Result) -> None:
        """Wait, then take or fail."""
        self.entered.set()
        assert self.release.wait(30)
        if self.broken:
            raise OSError(28, "No space left on device")
        super().write(result)


def running(outlet: Outlet) -> threading.Thread:
    """The outlet's writing thread."""
    thread = threading.Thread(target=outlet.run, daemon=True)
    thread.start()
    return thread


def test_slow_sink_drops_and_counts() -> None:
    """While a sink is stuck, `put` returns at once; what does not fit is counted, the rest is written."""
    sink, drops = StuckSink(), []
    outlet = Outlet("0:test", sink, 4, drops.append)
    thread = running(outlet)
    for index in range(20):
        outlet.put(result(f"f{index}"), DeliveryAck(1))
    sink.release.set()
    outlet.close()
    thread.join(30)
    assert len(sink.results) + len(drops) == 20
    assert len(sink.results) in (4, 5)
    assert set(drops) == {"queue full"}


def test_lost_events_are_counted_apart_from_results() -> None:
    """What a full queue turns away is told by its kind, so that results and losses add up to the frames."""
    sink, drops, event_drops = StuckSink(), [], []
    outlet = Outlet("0:test", sink, 1, drops.append, event_drops.append)
    outlet.put(result("kept"), DeliveryAck(1))
    outlet.put(Event(EventKind.BREAKER, 0.0), DeliveryAck(1))
    outlet.put(result("lost"), DeliveryAck(1))
    assert (drops, event_drops) == (["queue full"], ["queue full"])


@pytest.mark.parametrize(("broken", "lost"), [(True, True), (False, False)])
def test_a_sink_without_a_single_result_is_known(broken: bool, lost: bool) -> None:
    """A sink that took events alone has lost everything; without results there is nothing to lose."""
    sink = StuckSink()
    sink.release.set()
    sink.broken = broken
    outlet = Outlet("0:test", sink, 10, lambda _: None)
    outlet.put(Event(EventKind.STARTED, 0.0), DeliveryAck(1))
    assert not outlet.lost_everything
    outlet.put(result("f"), DeliveryAck(1))
    outlet.put(Event(EventKind.STOPPED, 0.0), DeliveryAck(1))
    outlet.close()
    running(outlet).join(30)
    assert outlet.lost_everything is lost


def test_failing_sink_goes_on() -> None:
    """A full disk loses the results of that time, counted; the next ones are written again."""
    sink, drops = StuckSink(), []
    sink.release.set()
    sink.broken = True
    outlet = Outlet("0:test", sink, 10, drops.append)
    outlet.put(result("lost"), DeliveryAck(1))
    outlet.close()
    running(outlet).join(30)
    assert drops == ["write failed"]
    sink.broken = False
    again = Outlet("0:test", sink, 10, drops.append)
    again.put(result("kept"), DeliveryAck(1))
    again.close()
    running(again).join(30)
    assert [r.frame_id for r in sink.results] == ["kept"]


class FullSink(MemorySink):
    """Takes everything, and cannot put it out while `full`."""

    full = True
    tries = 0

    def __init__(self) -> None:
        super().__init__()
        self.tried = threading.Semaphore(0)

    def flush(self) -> None:
        """As a full disk."""
        self.tries += 1
        self.tried.release()
        if self.full:
            raise OSError(28, "No space left on device")


class MovedSink(MemorySink):
    """Notes what is asked of it, and refuses to reopen its file as long as `stuck`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.stuck = 2

    def write(self, result: Result) -> None:
        """Note the frame."""
        self.asked.append(result.frame_id)

    def reopen(self) -> None:
        """Note it, or fail."""
        self.asked.append("reopen")
        self.stuck -= 1
        if self.stuck >= 0:
            raise OSError(28, "No space left on device")


def test_a_file_is_opened_anew_in_its_turn() -> None:
    """After what was put before; while the old file cannot take its rest, each item tries again."""
    sink = MovedSink()
    outlet = Outlet("0:test", sink, 10, lambda _: None)
    outlet.put(result("a"), DeliveryAck(1))
    outlet.put(result("b"), DeliveryAck(1))
    outlet.reopen()
    outlet.put(result("c"), DeliveryAck(1))
    outlet.put(result("d"), DeliveryAck(1))
    assert not sink.asked
    outlet.close()
    with capture_logs() as log:
        outlet.run()
    assert sink.asked == ["a", "b", "reopen", "reopen", "c", "reopen", "d"]
    assert [line["event"] for line in log] == ["sink fails", "sink works again"]


def test_a_sink_that_works_again_says_what_was_lost() -> None:
    """One line when it begins to fail and one when it works, whatever comes between."""
    sink, drops = FullSink(), []
    outlet = Outlet("0:test", sink, 2 * MAX_UNFLUSHED, drops.append)
    for number in range(MAX_UNFLUSHED + 7):
        outlet.put(result(f"f{number}"), DeliveryAck(1))
    with capture_logs() as log:
        thread = running(outlet)
        assert eventually(lambda: len(drops) == 7)
        assert outlet.state().failing
        assert outlet.state().waiting == MAX_UNFLUSHED
        assert "No space left" in outlet.state().last_error
        sink.full = False
        outlet.put(result("last"), DeliveryAck(1))
        assert eventually(lambda: not outlet.state().failing)
        outlet.close()
        thread.join(30)
    assert [(line["event"], line.get("lost")) for line in log] == [
        ("sink fails", None),
        ("sink works again", 7),
    ]


def test_a_receipt_is_for_what_is_out_not_for_what_was_taken() -> None:
    """A sink whose disk is full has taken the result; it is safe when the disk has room again, not before."""
    sink, drops, ack = FullSink(), [], DeliveryAck(1)
    outlet = Outlet("0:test", sink, 10, drops.append)
    thread = running(outlet)
    outlet.put(result("a"), ack)
    assert ack.wait(0.0) is None
    sink.full = False
    outlet.put(result("b"), later := DeliveryAck(1))
    assert later.wait(30) is True
    assert ack.wait(0.0) is True
    outlet.close()
    thread.join(30)
    assert (drops, outlet.lost_everything) == ([], False)


def test_what_waits_is_stored_when_the_disk_comes_though_nothing_new_does(tmp_path: Path) -> None:
    """A camera that is lost gives no frame, and the folder is mounted meanwhile: it is noticed by itself."""
    path = tmp_path / "disk" / "out.jsonl"
    outlet = Outlet("0:jsonl", JsonLinesSink(str(path), ENCODE), 10, lambda _: None)
    thread = running(outlet)
    outlet.put(result("a"), ack := DeliveryAck(1))
    assert eventually(lambda: outlet.state().failing)
    path.parent.mkdir()
    assert ack.wait(30) is True
    assert not outlet.state().failing
    outlet.close()
    thread.join(30)
    assert json.loads(path.read_text())["frame_id"] == "a"


def test_a_file_that_could_not_be_opened_anew_is_tried_again_though_nothing_comes() -> None:
    """Else a file that was renamed would be held for as long as the camera is away."""
    sink = MovedSink()
    outlet = Outlet("0:test", sink, 10, lambda _: None)
    thread = running(outlet)
    outlet.reopen()
    assert eventually(lambda: sink.asked == ["reopen"] * 3)
    assert eventually(lambda: not outlet.state().failing)
    outlet.close()
    thread.join(30)


def test_a_disk_that_stays_full_is_bounded_and_counted() -> None:
    """So many results are held and no more; at the end all of them are lost, counted, and told."""
    sink, drops = FullSink(), []
    outlet = Outlet("0:test", sink, 2 * MAX_UNFLUSHED, drops.append)
    receipts = [DeliveryAck(1) for _ in range(MAX_UNFLUSHED + 10)]
    for number, ack in enumerate(receipts):
        outlet.put(result(f"f{number}"), ack)
    outlet.close()
    running(outlet).join(30)
    assert len(sink.results) == MAX_UNFLUSHED
    assert sink.tries == 2  # a try may take seconds: the first that fails, and the last
    assert drops == ["write failed"] * len(receipts)
    assert {ack.wait(0.0) for ack in receipts} == {False}
    assert outlet.lost_everything


def test_what_fails_and_works_again_is_told_once_for_each_reason() -> None:
    """A line for each cause in a row, none for its repetitions, and one when the sink works again."""
    sink = FullSink()
    outlet = Outlet("0:test", sink, 10, lambda _: None)
    with capture_logs() as log:
        thread = running(outlet)
        for number in range(3):
            outlet.put(result(f"f{number}"), ack := DeliveryAck(1))
            assert sink.tried.acquire(timeout=30)
        sink.full = False
        outlet.put(result("last"), ack := DeliveryAck(1))
        assert ack.wait(30)
        outlet.close()
        thread.join(30)
    assert [(line["event"], line.get("error", "")) for line in log] == [
        ("sink fails", "[Errno 28] No space left on device"),
        ("sink works again", ""),
    ]


class NarrowSink(MemorySink):
    """Takes nothing while `away`, as a broker that cannot be reached."""

    def __init__(self) -> None:
        super().__init__()
        self.away = threading.Event()
        self.asked = threading.Event()
        self.noticed: list[Event] = []

    def notice(self, event: Event) -> None:
        """Keep it."""
        self.noticed.append(event)

    def wait_for_room(self, timeout_s: float) -> bool:
        """No room while away."""
        del timeout_s
        self.asked.set()
        return not self.away.is_set()

    def flush(self) -> None:
        """Say why."""
        if self.away.is_set():
            raise OSError("away")


def test_what_a_sink_has_no_room_for_waits_and_the_oldest_goes_first() -> None:
    """Of more than the queue holds the newest stay, in order; each of the others is counted and told."""
    sink, drops = NarrowSink(), []
    outlet = Outlet("0:test", sink, 3, drops.append, when_full=WhenFull.DROP_OLDEST)
    sink.away.set()
    acks = [DeliveryAck(1) for _ in range(8)]
    for number, ack in enumerate(acks):
        outlet.put(result(f"f{number}"), ack)
    thread = running(outlet)
    assert sink.asked.wait(30)
    sink.away.clear()
    assert acks[-1].wait(30)
    outlet.close()
    thread.join(30)
    assert [kept.frame_id for kept in sink.results] == ["f5", "f6", "f7"]
    assert drops == ["queue full"] * 5
    assert [ack.wait(0.0) for ack in acks] == [False] * 5 + [True] * 3


def test_a_sink_without_room_at_the_end_loses_what_waits() -> None:
    """The stop does not wait for a broker that stays away: what is queued is counted as lost."""
    sink, drops = NarrowSink(), []
    outlet = Outlet("0:test", sink, 3, drops.append)
    sink.away.set()
    outlet.put(result("a"), ack := DeliveryAck(1))
    outlet.close()
    running(outlet).join(30)
    assert (drops, ack.wait(0.0), sink.closed) == (["write failed"], False, True)


def test_an_event_is_noticed_before_it_is_queued() -> None:
    """A sink whose queue is full of results learns of it all the same."""
    sink = NarrowSink()
    outlet = Outlet("0:test", sink, 1, lambda _: None)
    outlet.put(result("a"), DeliveryAck(1))
    outlet.put(Event(EventKind.CAMERA_STATE, 1.0, {"state": "lost"}), DeliveryAck(1))
    assert [event.fields["state"] for event in sink.noticed] == ["lost"]


def test_one_sink_that_has_it_is_enough() -> None:
    """An acknowledgement for several sinks is good with the first that kept it, and bad when none did."""
    one, none = DeliveryAck(2), DeliveryAck(2)
    one.complete(stored=False)
    assert one.wait(0.0) is None
    one.complete(stored=True)
    assert one.wait(0.0) is True
    none.complete(stored=False)
    none.complete(stored=False)
    assert none.wait(0.0) is False
    assert DeliveryAck(0).wait(0.0) is True


def test_what_is_refused_for_good_does_not_come_again() -> None:
    """Unless another sink has lost it, which may take it the next time."""
    refused, lost = DeliveryAck(2), DeliveryAck(2)
    refused.complete(stored=False, for_good=True)
    assert refused.wait(0.0) is None
    refused.complete(stored=False, for_good=True)
    assert refused.wait(0.0) is True
    lost.complete(stored=False, for_good=True)
    lost.complete(stored=False)
    assert lost.wait(0.0) is False


def test_sinks_that_are_not_to_store_a_result_are_not_waited_for() -> None:
    """One for events alone, and one that keeps nothing: else a frame from the spool would come for ever."""
    events_only = Outlet("0:test", MemorySink(), 4, lambda _: None, takes=lambda one: isinstance(one, Event))
    traces = Outlet("1:test", MemorySink(), 4, lambda _: None, keeps=False)
    assert Outlets([events_only, traces], lambda _: None).put(result("a")).wait(0.0) is True
    full = Outlet("2:test", MemorySink(), 1, lambda _: None)
    outlets = Outlets([events_only, traces, full], lambda _: None)
    assert outlets.put(result("a")).wait(0.0) is None
    assert outlets.put(result("b")).wait(0.0) is False


def test_a_sink_that_hangs_is_named_and_the_others_have_everything() -> None:
    """At the stop the hung sink alone is left behind, what it has not is counted, the other is done."""
    stuck, healthy, drops = StuckSink(), MemorySink(), []
    beside = Outlet("1:memory", healthy, 10, lambda _: None)
    outlets = Outlets([Outlet("0:stuck", stuck, 10, drops.append), beside], lambda _: None)
    outlets.start()
    acks = [outlets.put(result(f"f{number}")) for number in range(3)]
    assert stuck.entered.wait(30)
    beside.close()
    wait_for_thread("sink 1:memory")
    with capture_logs() as log:
        assert not outlets.stop(time.monotonic())
    assert [line["part"] for line in log] == ["sink 0:stuck"]
    assert (len(healthy.results), healthy.closed) == (3, True)
    assert {ack.wait(0.0) for ack in acks} == {True}
    assert drops == ["stopped", "stopped"]  # the first is in the sink's hands
    assert outlets.lost_everything == ["0:stuck"]
    stuck.release.set()
    assert outlets.stop(time.monotonic() + 30)


def test_sinks_that_were_never_started_are_closed() -> None:
    """A daemon that could not be built lets go of its sinks without starting them."""
    sink = MemorySink()
    Outlets([Outlet("0:memory", sink, 10, lambda _: None)], lambda _: None).discard()
    assert sink.closed


def test_an_mqtt_sink_starts_nothing_before_its_start() -> None:
    """Building one leaves the threads as they were; it can be closed as it is. A CA is read at once."""
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed (extra mqtt)")
    from spillover.edge.sinks.discovery import AnnouncedCamera
    from spillover.edge.sinks.mqtt import MqttSink

    before = threading.enumerate()
    sink = MqttSink(MqttConfig(host="127.0.0.1"), "pi", [AnnouncedCamera("cam")], ENCODE)
    assert threading.enumerate() == before
    sink.close()
    with pytest.raises(ConfigError, match=r"sinks: ca: /nowhere/ca\.crt"):
        MqttSink(MqttConfig(host="127.0.0.1", ca="/nowhere/ca.crt"), "pi", [AnnouncedCamera("cam")], ENCODE)
