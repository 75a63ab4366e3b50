"""Audits, picture variants and the link's record through a daemon, against a real server on loopback."""

from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.link.trace import LinkRecorder
from spillover.edge.sinks.record import Record
from spillover.lab.pairs.replay.trace import read_trace
from spillover.lab.records import read_records
from tests.support.jpeg import jpeg_size
from tests.support.models import SIDE, colour_classifier
from tests.support.scripted_cloud import PATIENCE_S, scripted_cloud

A_MINUTE_S = 600.0


class Site:
    """Ten red pictures, of which the classifier is sure, and daemons over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = colour_classifier(folder / "models")
        (folder / "pictures").mkdir()
        for number in range(10):
            red = np.full((4 * SIDE, 4 * SIDE, 3), (0, 0, 255), np.uint8)
            cv2.imwrite(str(folder / "pictures" / f"{number:03}.png"), red)

    def run(
        self, address: str, record_link: Path | None = None, **sections: Any
    ) -> tuple[Daemon, list[Record]]:
        """One run over all pictures."""
        output = self.folder / "out.jsonl"
        values: dict[str, Any] = {
            "camera": {"source": str(self.folder / "pictures"), "pace": "fast"},
            "model": {"folder": str(self.model), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(output), "decision": "full"}],
            "uplink": {"address": address},
            "mode": "hybrid",
            "deadline_s": A_MINUTE_S,
            "stop_timeout_s": PATIENCE_S,
        }
        daemon = Daemon(msgspec.convert(values | sections, EdgeConfig), record_link)
        daemon.run()
        return daemon, read_records(output)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site in a folder of its own."""
    return Site(tmp_path)


def test_the_daemon_reports_how_often_it_is_wrong(site: Site) -> None:
    """Every frame audited, a cloud that always disagrees: all are kept and wrong, and the status says so."""
    with scripted_cloud() as cloud:
        daemon, records = site.run(cloud.address, policy={"audit_share": 1.0, "threshold": 0.5})
    assert {record.decision.reason for record in records} == {"audit"}
    found = daemon.status().edge_error
    assert found is not None
    assert (found.audits, found.share) == (10, 1.0)
    assert 0.6 < found.low < 1.0


def test_a_smaller_picture_is_sent_where_the_usual_one_is_not_paid_for(site: Site) -> None:
    """A bucket that never holds the usual picture: a smaller one leaves, and the decision says which."""
    big = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    for number in range(10):
        cv2.imwrite(str(site.folder / "pictures" / f"{number:03}.png"), big)
    from spillover.edge.link.byte_budget import SavedTokens

    state = site.folder / "left.json"
    SavedTokens(state).save(12_000)
    budget = {"bytes": 2_000_000, "per": "day", "bucket_bytes": 12_000, "state_file": str(state)}
    variants = [{"jpeg_quality": 40, "longest_side": 64, "fidelity": 0.6}]
    with scripted_cloud() as cloud:
        uplink = {"address": cloud.address, "variants": variants, "keepalive_s": 86_400}
        _, records = site.run(cloud.address, mode="cloud_only", policy={"budget": budget}, uplink=uplink)
    assert cloud.requests
    assert {jpeg_size(request.image.data) for request in cloud.requests} == {(64, 64)}
    sent = [record for record in records if record.answered_by == "cloud"]
    assert {record.decision.payload for record in sent} == {"picture-q40-64"}


def test_the_link_of_a_run_can_be_replayed(site: Site) -> None:
    """What `--record-link` writes is a trace: it begins at 0, carries bytes, and ends."""
    path = site.folder / "link.csv"
    with scripted_cloud() as cloud:
        site.run(cloud.address, path, mode="cloud_only")
    trace = read_trace(path)
    assert trace.duration_s >= 0.5
    assert trace.at(0.0).rate_bytes_per_s > 0


def test_a_link_that_is_gone_is_recorded_as_such(tmp_path: Path) -> None:
    """Nothing comes through from the first call that found nobody to the next that was answered."""
    times = iter([100.0, 100.2, 101.0, 105.0, 106.0])
    recorder = LinkRecorder(tmp_path / "link.csv", lambda: next(times))
    for rate in (1e6, 2e6, 0.0, 5e5):
        recorder.note(rate, 0.03)
    recorder.close()
    steps = [(step.at_s, step.rate_bytes_per_s) for step in read_trace(tmp_path / "link.csv").steps]
    assert steps == [(0, 1e6), (1, 0), (5, 5e5), (6, 5e5)]
