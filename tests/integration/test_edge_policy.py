"""Audits, the ladder and the link's record through a whole daemon, against a real server on loopback."""

from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from common.images import jpeg_size
from edge.config import EdgeConfig
from edge.daemon import Daemon
from edge.sinks.record import Record
from edge.status import to_status
from lab.records import read_records
from tests.models import SIDE, colour_classifier
from tests.scripted_cloud import PATIENCE_S, scripted_cloud

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

    def run(self, address: str, **sections: Any) -> tuple[Daemon, list[Record]]:
        """One run over all pictures."""
        output = self.folder / "out.jsonl"
        values: dict[str, Any] = {
            "camera": {"source": str(self.folder / "pictures"), "pace": "fast"},
            "model": {"folder": str(self.model), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(output)}],
            "uplink": {"address": address},
            "mode": "hybrid",
            "deadline_s": A_MINUTE_S,
            "drain_timeout_s": PATIENCE_S,
        }
        daemon = Daemon(msgspec.convert(values | sections, EdgeConfig))
        daemon.run()
        return daemon, read_records(output)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site in a folder of its own."""
    return Site(tmp_path)


def test_the_daemon_reports_how_often_it_is_wrong(site: Site) -> None:
    """Every frame audited, a cloud that always disagrees: all are kept and wrong, and the status says so."""
    from prometheus_client import generate_latest

    with scripted_cloud() as cloud:
        daemon, records = site.run(cloud.address, policy={"audit_share": 1.0})
    assert {record.decision.reason for record in records} == {"audit"}
    status = to_status(generate_latest(daemon.metrics.registry).decode())
    assert status.audits == 10
    assert status.edge_error["estimate"] == 1.0
    assert 0.6 < status.edge_error["low"] < 1.0


def test_a_smaller_picture_is_sent_where_the_usual_one_is_not_paid_for(site: Site) -> None:
    """A bucket that never holds the usual picture: a smaller one leaves, and the decision says which."""
    big = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    for number in range(10):
        cv2.imwrite(str(site.folder / "pictures" / f"{number:03}.png"), big)
    from edge.budget import SavedTokens

    state = site.folder / "left.json"
    SavedTokens(state).save(12_000)
    budget = {"bytes": 24_000, "per": "day", "bucket_bytes": 12_000, "state_file": str(state)}
    ladder = [{"jpeg_quality": 40, "longest_side": 64, "kept": 0.6}]
    with scripted_cloud() as cloud:
        uplink = {"address": cloud.address, "ladder": ladder}
        _, records = site.run(cloud.address, mode="cloud_only", policy={"budget": budget}, uplink=uplink)
    assert cloud.requests
    assert {jpeg_size(request.image.data) for request in cloud.requests} == {(64, 64)}
    sent = [record for record in records if record.answered_by == "cloud"]
    assert {record.decision.payload for record in sent} == {"picture-q40-64"}
