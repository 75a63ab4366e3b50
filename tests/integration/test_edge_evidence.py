"""Evidence of a running daemon: named in results and events, without what is hidden, whole after a kill."""

import json
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from spillover.edge.config import EvidenceConfig
from spillover.edge.config.paths import evidence_file
from spillover.edge.evidence.snapshots import QUEUED_FRAMES
from spillover.edge.evidence.store import Store
from tests.chaos.disk import LateSyncs
from tests.support.models import SIDE, colour_classifier
from tests.support.moving import Walker, World
from tests.support.processes import edge_process, wait_until
from tests.support.scripted_cloud import answers, scripted_cloud
from tests.support.tracked import Street, says

SCENE = World((Walker(20, 60, dx=6, class_id=2), Walker(220, 150), Walker(150, 5, class_id=2)))
"""One object walks; one is of a class that is to be hidden; where the last stands the cloud sees nothing."""
SENT = 5
EVENTS = {"zones": [{"name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}]}


def lines_of(log: Path) -> list[dict[str, Any]]:
    """The lines of a log that name evidence."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line.get("snapshot") or line.get("event") == "evidence"]


def test_events_and_their_result_name_a_picture_without_what_is_hidden(tmp_path: Path) -> None:
    """The picture of an event and of a disagreement; in each phase the same name; hidden pixels are black."""
    street, folder = Street(tmp_path), tmp_path / "evidence"
    folder.mkdir()
    street.film(SCENE, 30)
    with scripted_cloud(says(lambda number: SCENE.boxes(number, 0.9, 0))) as cloud:
        seen = street.run(
            SCENE.boxes,
            sent=[SENT],
            uplink={"address": cloud.address},
            policy={"agree_from": 0.9},
            redaction={"classes": [0], "style": "fill"},
            events=EVENTS,
            evidence={"folder": str(folder), "snapshots": ["events", "disagreements"], "clip": {}},
        )
    named = lines_of(street.log)
    phases = [(line.get("event"), line.get("phase")) for line in named]
    assert phases.count(("appeared", "provisional")) == 3
    assert phases.count(("appeared", "confirmed")) == 1
    assert phases[-1] != ("lost", "provisional")
    names = {line["snapshot"] for line in named if "frame_id" in line and "event" not in line}
    (clip,) = {line["clip"] for line in named if "clip" in line}
    assert {line["frame_id"] + ".jpg" for line in named} == names
    assert {line["name"] for line in named if line.get("event") == "evidence"} == {*names, clip}
    assert f"{seen.first[SENT].frame_id}.jpg" in names
    assert {path.name for path in folder.glob("camera-*[0-9].jpg")} == names
    assert seen.counts["evidence_stored[snapshot]"] == len(names)
    assert seen.counts["evidence_stored[clip]"] == 1
    assert "evidence_lost" not in " ".join(seen.counts)
    film = cv2.VideoCapture(str(folder / clip))
    for image in [cv2.imread(str(folder / name)) for name in names] + [film.read()[1]]:
        assert image is not None
        assert image[155:205, 225:255].max() < 16
        assert image[:100].std() > 16


@pytest.mark.timeout(120)
def test_after_kill_9_every_named_file_is_whole(tmp_path: Path) -> None:
    """Killed inside a write, with half a file there: what was named is whole, but for what was under way."""
    pictures, folder = tmp_path / "pictures", tmp_path / "evidence"
    pictures.mkdir()
    folder.mkdir()
    cv2.imwrite(str(pictures / "0.png"), np.full((SIDE, SIDE, 3), 200, np.uint8))
    syncs = LateSyncs(tmp_path)
    with scripted_cloud(answers) as cloud:
        config: dict[str, object] = {
            "mode": "cloud_only",
            "camera": {"source": str(pictures), "loop": True, "fps": 30},
            "model": {"folder": str(colour_classifier(tmp_path / "models")), "session": {"threads": 1}},
            "uplink": {"address": cloud.address},
            "evidence": {"folder": str(folder), "snapshots": ["offloads"], "max_mb": 1.0},
        }
        with edge_process(config, tmp_path, env=syncs.environment) as edge:
            edge.read_until(lambda record: bool(record.snapshot), 25)
            # One that hung in the folder's sync would have no half file.
            with syncs.hanging(folders=False):
                wait_until(lambda: any(folder.glob(".camera-*")), edge.process)
                edge.process.send_signal(signal.SIGKILL)
                edge.read_to_end()
        records = sorted(edge.records, key=lambda record: record.sequence)
        named = [record.snapshot for record in records if record.snapshot]
        assert any(folder.glob(".camera-*"))
        missing = [name for name in named if not (folder / name).exists()]
        assert missing == named[len(named) - len(missing) :]  # those under way at the kill, and no other
        assert len(missing) <= QUEUED_FRAMES + 1
    store = Store(evidence_file(EvidenceConfig(folder=str(folder))), 10**6, 1e6)  # as the next start does
    store.close()
    assert list(folder.glob(".camera-*")) == []
    there = [name for name in named if name in store]
    assert len(there) >= 10
    assert there == [name for name in named if (folder / name).exists()]
    for path in folder.glob("camera-*.jpg"):
        assert path.read_bytes().endswith(b"\xff\xd9")
        assert cv2.imread(str(path)) is not None
