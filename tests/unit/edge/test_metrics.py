"""The books: every ending is counted once, and the endpoint shows it."""

from dataclasses import replace

from prometheus_client import generate_latest

from spillover.common.types import AnsweredBy
from spillover.edge.camera.source import CameraState
from spillover.edge.telemetry.metrics import Metrics
from spillover.edge.telemetry.status import to_status, to_text
from tests.support.edge_values import result


def test_first_results_and_revisions_are_apart() -> None:
    """A revision is no second ending of its frame."""
    metrics = Metrics()
    metrics.result(replace(result(), answered_by=AnsweredBy.EDGE_DEGRADED))
    metrics.result(replace(result(), answered_by=AnsweredBy.CLOUD, revision=1))
    assert metrics.summary() == {"frames[edge_degraded]": 1, "revisions": 1}


def test_the_camera_is_in_one_state() -> None:
    """The metric is 1 for the camera's state and 0 for all others, by the names that events use."""
    metrics = Metrics()
    for state in (CameraState.LOST, CameraState.OK, CameraState.FROZEN):
        metrics.camera("front", state)
    metrics.camera("back", CameraState.OK)
    names = ("ok", "frozen", "lost", "ended")
    values = [
        metrics.registry.get_sample_value("spillover_edge_source", {"camera": "front", "state": name})
        for name in names
    ]
    assert values == [0, 1, 0, 0]


def test_status_shows_every_camera() -> None:
    """By its name, each with its state; frames are counted by camera beside the sum of the device."""
    metrics = Metrics()
    metrics.camera("front", CameraState.OK)
    metrics.camera("back", CameraState.LOST)
    for name in ("front", "front", "back"):
        metrics.captured(name)
    metrics.dropped("queue full", "front")
    found = to_status(generate_latest(metrics.registry).decode())
    assert found.cameras == {"front": "ok", "back": "lost"}
    assert "front ok, back lost" in to_text(found)
    assert metrics.summary() == {"frames_captured": 3, "frames_dropped[queue full]": 1}
    sample = metrics.registry.get_sample_value
    assert sample("spillover_edge_source_frames_captured_total", {"camera": "front"}) == 2
    assert sample("spillover_edge_source_frames_dropped_total", {"camera": "front"}) == 1
