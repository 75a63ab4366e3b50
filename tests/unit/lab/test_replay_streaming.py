"""Streaming accuracy of logs: judged by the cloud's answers to the frames, from whatever log has them."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from spillover.common.types import Action, Decision, ModelId, Timings
from spillover.edge.sinks.record import BoxRecord, ClassRecord, Record
from spillover.edge.tracking.steps import StepRecord
from spillover.edge.tracking.values import Box, StepInputs
from spillover.lab.pairs.replay.cli import replay
from spillover.lab.pairs.replay.streaming import streaming_of

KEEP = Decision(Action.KEEP, "confident", 0.5)
HERE, THERE = [0.0, 0.0, 20.0, 20.0], [40.0, 0.0, 60.0, 20.0]


def record(number: int, xyxy: list[float] | None, total_s: float = 0.05, **changes: object) -> Record:
    """Ten frames a second with one box, or none."""
    fields: dict[str, object] = {
        "frame_id": f"camera-boot-{number}",
        "camera_id": "camera",
        "sequence": number,
        "source": "",
        "captured_unix_s": 1e9 + number / 10,
        "answered_by": "edge",
        "revision": 0,
        "model": ModelId("m", "1"),
        "classes": None,
        "boxes": [BoxRecord(xyxy, 0.9, 0)] if xyxy else [],
        "timings": Timings(infer_s=min(total_s, 0.05), total_s=total_s),
        "payload_bytes": 0,
        "decision": KEEP,
        "error": "",
    }
    return Record(**(fields | changes))


def of_cloud(number: int, xyxy: list[float] | None, total_s: float) -> Record:
    """The cloud's answer to a frame, as a revision of another run of the daemon."""
    frame_id = f"camera-other-{number}"
    return record(number, xyxy, total_s, frame_id=frame_id, answered_by="cloud", payload_bytes=1000)


def test_only_frames_that_the_cloud_has_answered_are_judged() -> None:
    """Each by what was newest when it was taken: the first by nothing, those after it by the one before."""
    records = [record(n, HERE) for n in range(10)]
    assert streaming_of({"a": records}) == []
    late = [record(n, HERE if n < 8 else THERE, 0.9, answered_by="cloud", revision=1) for n in (0, 4, 9)]
    (figures,) = streaming_of({"a": [*records, *late]})
    assert (figures.way, figures.frames, figures.judged) == ("as given", 10, 3)
    assert figures.streaming == pytest.approx(1 / 3)
    assert figures.delay_s is None


def test_an_old_answer_is_wrong_by_the_clock() -> None:
    """The log of another run judges every frame; its own answers are right, and late where things move."""
    truth = [HERE if n % 2 else THERE for n in range(20)]
    cloud = [of_cloud(n, box, 0.25) for n, box in enumerate(truth)]  # three frames late: of the other kind
    figures = {one.log: one for one in streaming_of({"a": [record(n, HERE) for n in range(20)], "b": cloud})}
    assert figures["a"].judged == figures["b"].judged == 20
    assert figures["b"].streaming == 0
    assert figures["a"].streaming == pytest.approx(10 / 20)


def test_what_the_edge_alone_would_have_shown_is_in_a_full_log() -> None:
    """The boxes that the tracker was told of, from the report threshold up, as soon as the edge had them."""
    told = (Box(*HERE, confidence=0.9, class_id=0), Box(*THERE, confidence=0.1, class_id=0))
    steps = [StepRecord(n, 0.3, (), StepInputs(n / 10, 64, 48, told), 0) for n in range(10)]
    # The frames wait for the cloud until their deadline, and show nothing then.
    records = [record(n, None, 0.4, tracking=step) for n, step in enumerate(steps)]
    cloud = [of_cloud(n, HERE, 0.2) for n in range(10)]
    ways = {(one.log, one.way): one for one in streaming_of({"a": records, "b": cloud})}
    assert ways["a", "as given"].streaming == 0
    assert ways["a", "edge alone"].streaming == pytest.approx(9 / 10)
    assert ("b", "edge alone") not in ways


def test_the_delay_to_the_first_detection_needs_every_frame() -> None:
    """An object that is there for a second and shown after half of it."""
    cloud = [of_cloud(n, HERE if n >= 5 else None, 0.01) for n in range(25)]
    given = [record(n, HERE if n >= 10 else None, 0.05) for n in range(25)]
    figures = {one.log: one for one in streaming_of({"a": given, "b": cloud})}
    assert figures["a"].delay_s == pytest.approx(0.6)
    assert figures["b"].delay_s == pytest.approx(0.1)


def test_two_starts_of_a_daemon_are_two_clocks() -> None:
    """A number that comes again after a restart is another frame."""
    again = [record(n, HERE, frame_id=f"camera-later-{n}", captured_unix_s=2e9 + n / 10) for n in range(10)]
    first = [record(n, THERE) for n in range(10)]
    cloud = [of_cloud(n, HERE, 0.3) for n in range(10)]
    figures = {one.log: one for one in streaming_of({"a": [*first, *again], "b": cloud})}
    assert figures["a"].frames == figures["a"].judged == 20
    assert figures["a"].streaming == pytest.approx(9 / 20)


def test_classes_are_judged_too(tmp_path: Path) -> None:
    """The command says it of any log, and keeps the figures."""

    def line(number: int, class_id: int, **changes: object) -> bytes:
        classes = [ClassRecord(class_id, 0.9)]
        return msgspec.json.encode(record(number, None, boxes=None, classes=classes, **changes))

    log, answers, out = tmp_path / "r.jsonl", tmp_path / "c.jsonl", tmp_path / "o.json"
    log.write_bytes(b"\n".join(line(n, 0, payload_bytes=1000) for n in range(10)))
    answers.write_bytes(b"\n".join(line(n, n % 2, answered_by="cloud") for n in range(10)))
    command = ["--log", str(log), "--answers", str(answers), "--link", "constant", "--json", str(out)]
    done = CliRunner().invoke(replay, command, catch_exceptions=False)
    assert f"streaming accuracy of {log}, as given: 0.400" in done.output
    assert "judged by the cloud's answers to 10 of 10 frames" in done.output
    assert [one["judged"] for one in msgspec.json.decode(out.read_bytes())["streaming"]] == [10, 10]
