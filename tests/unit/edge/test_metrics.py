"""The books: every ending is counted once, and the endpoint shows it."""

from dataclasses import replace

from spillover.common.types import AnsweredBy
from spillover.edge.camera.source import CameraState
from spillover.edge.telemetry.metrics import Metrics
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


def test_frames_are_counted_by_camera() -> None:
    """Beside the sum of the device, and not in its summary."""
    metrics = Metrics()
    for name in ("front", "front", "back"):
        metrics.captured(name)
    metrics.dropped("queue full", "front")
    assert metrics.summary() == {"frames_captured": 3, "frames_dropped[queue full]": 1}
    sample = metrics.registry.get_sample_value
    assert sample("spillover_edge_source_frames_captured_total", {"camera": "front"}) == 2
    assert sample("spillover_edge_source_frames_dropped_total", {"camera": "front"}) == 1
