"""From records to latencies that hide nothing."""

from dataclasses import replace

import numpy as np
import pytest

from spillover.common.types import Action, ModelId, Timings
from spillover.edge.sinks.record import ClassRecord, Record
from spillover.lab.loadtest.figures import Carried, FigureContext, frame_figures, resource_figures
from spillover.lab.loadtest.outcomes import (
    CLOUD,
    DEGRADED,
    DROPPED,
    EDGE,
    Window,
    join,
    outcomes_of,
    percentile_ms,
)
from spillover.lab.loadtest.real import video_begins
from spillover.lab.loadtest.results import summarise
from spillover.lab.loadtest.sampling import Sample
from tests.unit.lab.test_loadtest_report import SOME_DECISION

FPS = 10.0
START_S = 1000.0
WINDOW = Window(START_S + 1.0, START_S + 2.0)
"""Frames 10 to 19."""


def record(sequence: int, total_s: float = 0.01, *, late_s: float = 0.0, **changes: object) -> Record:
    """A frame that was captured `late_s` after it was due."""
    fields: dict[str, object] = {
        "frame_id": f"f-{sequence}",
        "camera_id": "camera",
        "sequence": sequence,
        "source": "",
        "captured_unix_s": START_S + sequence / FPS + late_s,
        "answered_by": "edge",
        "revision": 0,
        "model": ModelId("m", "1"),
        "classes": [ClassRecord(0, 0.9)],
        "boxes": None,
        "timings": Timings(total_s=total_s),
        "payload_bytes": 0,
        "decision": SOME_DECISION,
        "error": "",
    }
    return Record(**(fields | changes))


def context() -> FigureContext:
    """One edge, 300 ms."""
    return FigureContext(1, 0.3, WINDOW)


def test_latency_counts_from_when_the_frame_was_due() -> None:
    """A camera that stalled for 200 ms shows in the latency, though the pipeline took 10 ms."""
    records = [record(n, late_s=0.2 if n == 15 else 0.0) for n in range(30)]
    outcomes = outcomes_of(records, FPS, WINDOW)
    assert len(outcomes) == 10
    assert outcomes.first_s.max() == pytest.approx(0.21)
    assert outcomes.emit_s.max() == pytest.approx(0.01)


def test_a_frame_without_a_record_is_dropped_and_not_in_time() -> None:
    """Missing numbers count among the frames, as neither answered nor in time."""
    outcomes = outcomes_of([record(n) for n in range(30) if n not in {12, 13}], FPS, WINDOW)
    figures = frame_figures(outcomes, context())
    assert (outcomes.ending == DROPPED).sum() == 2
    assert figures["dropped_share"] == pytest.approx(0.2)
    assert figures["on_time_share"] == pytest.approx(0.8)


def test_a_late_answer_is_a_revision_of_the_same_frame() -> None:
    """The first answer counts for the deadline, the revision for the final answer; the frame is not lost."""
    late = [
        record(12, 0.295, answered_by="edge_degraded", payload_bytes=500, error="no answer by the deadline"),
        record(12, 0.8, answered_by="cloud", payload_bytes=500, revision=1),
    ]
    outcomes = outcomes_of([*(record(n) for n in range(30) if n != 12), *late], FPS, WINDOW)
    figures = frame_figures(outcomes, context())
    assert outcomes.ending[2] == DEGRADED
    assert outcomes.first_s[2] == pytest.approx(0.295)
    assert outcomes.final_s[2] == pytest.approx(0.8)
    assert outcomes.reasons == {"no answer by the deadline": 1}
    assert figures["late_share"] == pytest.approx(0.1)
    assert figures["lost"] == 0
    assert figures["sent_in_time_share"] == 0


def test_a_failed_call_is_lost_and_its_reason_counted_without_detail() -> None:
    """A sent frame that the cloud never answered counts as lost; reasons group by status."""
    failed = [
        record(n, answered_by="edge_degraded", payload_bytes=9, error=f"unavailable: attempt {n}")
        for n in (11, 12)
    ]
    outcomes = outcomes_of([*(record(n) for n in range(30) if n not in {11, 12}), *failed], FPS, WINDOW)
    assert outcomes.reasons == {"unavailable": 2}
    assert frame_figures(outcomes, context())["lost"] == 2


def test_what_the_cloud_was_asked_narrows_step_by_step() -> None:
    """Wanted, offered, sent, answered, in time have one meaning each; "of frames sent" divides by those."""
    send = replace(SOME_DECISION, action=Action.SEND_FRAME)
    held_back = {"answered_by": "edge_degraded", "error": "link too slow"}
    special = {
        10: record(10, **held_back),
        11: record(11, **held_back),
        12: record(12, decision=send, answered_by="edge_degraded", error="over budget"),
        13: record(13, decision=send, answered_by="edge_degraded", payload_bytes=9, error="unavailable"),
        14: record(14, 0.29, decision=send, answered_by="edge_degraded", payload_bytes=9),
        15: record(15, 0.1, decision=send, answered_by="cloud", payload_bytes=9),
    }
    late = record(14, 0.9, decision=send, answered_by="cloud", payload_bytes=9, revision=1)
    records = [*(special.get(n, record(n)) for n in range(30)), late]
    figures = frame_figures(outcomes_of(records, FPS, WINDOW), context())
    names = ("wanted", "offered", "sent", "answered", "in_time", "degraded")
    shares = [round(figures[f"{name}_share"] * 10) for name in names]
    assert shares == [6, 4, 3, 2, 1, 5]
    assert figures["sent_in_time_share"] == pytest.approx(1 / 3)
    assert figures["wanted_in_time_share"] == pytest.approx(1 / 6)


def test_shares_and_bytes_are_of_all_frames() -> None:
    """Bytes a frame are spread over the frames that were kept, too."""
    sent = record(14, 0.1, answered_by="cloud", payload_bytes=20_000)
    outcomes = outcomes_of([sent if n == 14 else record(n) for n in range(30)], FPS, WINDOW)
    figures = frame_figures(outcomes, context())
    assert figures["payload_bytes_per_frame"] == 2000
    assert figures["sent_share"] == pytest.approx(0.1)
    assert sorted(set(outcomes.ending.tolist())) == [EDGE, CLOUD]


def test_the_wire_carries_no_less_than_the_payloads() -> None:
    """A window whose last picture was still under way counts that picture's bytes, headers included."""
    sent = {n: record(n, 0.1, answered_by="cloud", payload_bytes=1000) for n in (5, 19)}
    outcomes = outcomes_of([sent.get(n, record(n)) for n in range(30)], FPS, WINDOW)
    nothing_yet = Sample(WINDOW.begin_s, 0.0, 0, None, 0.0, 0, 1100.0, 0.0, None, None, 0.0)
    samples = [nothing_yet, replace(nothing_yet, unix_s=WINDOW.end_s, up_bytes=1150.0)]
    figures = resource_figures(samples, outcomes, context(), Carried(2200, 2000), ours=False)
    assert figures["up_bytes_per_frame"] == pytest.approx(110)
    assert figures["up_mb_per_day"] == pytest.approx(1100 * 86_400 / 1e6)
    idle = outcomes_of([record(n) for n in range(30)], FPS, WINDOW)
    figures = resource_figures(samples, idle, context(), Carried(50, 0), ours=False)
    assert figures["up_bytes_per_frame"] == pytest.approx(5)


def test_edges_are_joined() -> None:
    """The frames of two edges are all there, reasons added up."""
    one = outcomes_of([record(n, error="pushback" if n == 12 else "") for n in range(30)], FPS, WINDOW)
    both = join([one, one])
    assert len(both) == 20
    assert both.reasons == {"pushback": 2}


def test_an_edge_that_said_nothing_dropped_every_frame() -> None:
    """No records at all are a window of frames without an answer, not an empty window."""
    assert outcomes_of([], FPS, WINDOW).ending.tolist() == [DROPPED] * 10


def test_repeats_are_summed_up_by_their_median_and_range() -> None:
    """Median, smallest, largest, of the figures that every run has."""
    summary = summarise([{"x": 3.0, "y": 1.0}, {"x": 1.0}, {"x": 2.0}])
    assert set(summary) == {"x"}
    assert (summary["x"].median, summary["x"].low, summary["x"].high) == (2, 1, 3)


def test_a_percentile_is_a_measured_value() -> None:
    """p99.9 of few frames is their maximum; frames without an answer have no latency."""
    seconds = np.array([0.1, 0.2, np.nan, 0.4])
    assert percentile_ms(seconds, 99.9) == pytest.approx(400)
    assert percentile_ms(np.array([np.nan]), 50) is None


@pytest.mark.parametrize(
    ("sent", "payload", "begins"),
    [([5, 15], "video", False), ([15, 17], "video", True), ([15], "picture", False), ([], "video", False)],
)
def test_a_video_that_begins_in_the_window_is_told(sent: list[int], payload: str, begins: bool) -> None:
    """Its first picture is whole: a month has it once, and the window would have it every 15 s."""
    video = replace(SOME_DECISION, payload=payload)
    records = [record(n, payload_bytes=100, decision=video) if n in sent else record(n) for n in range(20)]
    assert video_begins(records, WINDOW) is begins
