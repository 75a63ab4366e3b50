"""An edge and a cloud that do not fit together: the edge goes on, and says so where a person looks."""

import threading

import msgspec
import pytest

from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.status.text import to_text
from tests.integration.test_edge_late import _until, pictures  # noqa: F401 - a fixture
from tests.support.models import centre_detector, colour_classifier
from tests.support.scripted_cloud import PATIENCE_S
from tests.support.serving import cloud_config, serving

GAUGE = "spillover_edge_pair_misfit"


@pytest.fixture
def edge_of(tmp_path, pictures, monkeypatch):  # noqa: F811
    """Start an edge with the classifier against that server; it ends with the test."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    started: list[tuple[Daemon, threading.Thread]] = []

    def start(address: str, **uplink: object) -> Daemon:
        config = {
            "mode": "cloud_only",
            "camera": {"source": str(pictures), "fps": 50, "loop": True},
            "model": {"folder": str(colour_classifier(tmp_path / "edge")), "session": {"threads": 1}},
            "uplink": {"address": address, "breaker_pause_max_s": 0.5} | uplink,
            "sinks": [{"kind": "jsonl", "path": str(tmp_path / "out.jsonl")}],
            "deadline_s": PATIENCE_S,
        }
        daemon = Daemon(msgspec.convert(config, EdgeConfig))
        thread = threading.Thread(target=daemon.run)
        thread.start()
        started.append((daemon, thread))
        return daemon

    yield start
    for daemon, thread in started:
        daemon.stop("seen enough")
        thread.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("uplink", "says"),
    [
        ({}, "uplink.model_name: it gives Detections, the edge's model Classification"),
        ({"model_name": "nope"}, "uplink.model_name: model 'nope' is not loaded"),
    ],
)
def test_a_pair_that_does_not_fit_is_in_status_and_metrics(tmp_path, edge_of, uplink, says):
    """A cloud of another task, and a model that nobody has loaded; every frame has its local answer."""
    centre_detector(tmp_path / "cloud")
    with serving(cloud_config(tmp_path / "cloud")) as server:
        daemon = edge_of(server.address, **uplink)
        _until(lambda: daemon.status().link.misfit)
        assert daemon.metrics.registry.get_sample_value(GAUGE) == 1
        _until(lambda: daemon.status().frames.edge_degraded > 10)
        found = daemon.status()
    assert says in found.link.misfit
    assert f"EDGE AND CLOUD DO NOT FIT: {says}" in to_text(found)


def test_a_pair_that_fits_says_nothing(tmp_path, edge_of):
    """The first answer is proof."""
    colour_classifier(tmp_path / "cloud")
    with serving(cloud_config(tmp_path / "cloud")) as server:
        daemon = edge_of(server.address)
        _until(lambda: daemon.status().frames.cloud > 3)
        assert daemon.status().link.misfit == ""
        assert daemon.metrics.registry.get_sample_value(GAUGE) == 0
