"""Crops through a whole daemon, against a real server on loopback: what leaves, and where its boxes land."""

import threading
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from spillover.common.errors import ConfigError
from spillover.common.images import decode_jpeg
from spillover.common.model.calibration import Calibration
from spillover.common.model.manifest import open_model_folder, write_manifest
from spillover.common.types import Action
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.sinks.record import Record
from spillover.lab.pairs.replay.remake import remake
from spillover.lab.records import read_records
from tests.support.jpeg import jpeg_size
from tests.support.models import centre_detector, colour_classifier
from tests.support.scripted_cloud import PATIENCE_S, boxes, no_server_address, scripted_cloud

SIDE = 160
CROP = (112, 112)
"""The middle box, 80 pixels, and a fifth of that on every side: from (24, 24) on."""
CORNER = (0.1, 0.1, 0.2, 0.2, 0.9)
"""What the edge's model is sure of, beside the middle of which it is not."""

POLL_S = 0.05


class Site:
    """Four grey pictures, of whose middle the detector is in doubt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = centre_detector(folder / "models", beside=CORNER)
        (folder / "pictures").mkdir()
        for number in range(4):
            cv2.imwrite(str(folder / "pictures" / f"{number}.png"), np.full((SIDE, SIDE, 3), 128, np.uint8))

    def daemon(self, address: str, policy: dict[str, Any] | None = None, **sections: Any) -> Daemon:
        """A daemon whose list of variants has a crop that keeps everything."""
        values: dict[str, Any] = {
            "mode": "hybrid",
            "camera": {"source": str(self.folder / "pictures"), "pace": "fast"},
            "model": {"folder": str(self.model), "report_threshold": 0.5, "session": {"threads": 1}},
            "policy": {"audit_share": 0.0, "threshold": 0.5} | (policy or {}),
            "uplink": {
                "address": address,
                "jpeg_quality": 95,
                "variants": [{"jpeg_quality": 95, "crop": True, "fidelity": 1.0}],
            },
            "sinks": [{"kind": "jsonl", "path": str(self.folder / "out.jsonl"), "decision": "full"}],
            "deadline_s": PATIENCE_S,
            "stop_timeout_s": PATIENCE_S,
        }
        return Daemon(msgspec.convert(values | sections, EdgeConfig))

    def records(self) -> list[Record]:
        """What the sink has."""
        return read_records(self.folder / "out.jsonl")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site in a folder of its own."""
    return Site(tmp_path)


def _is_merged(record: Record) -> bool:
    assert record.boxes is not None
    told = [(box.class_id, box.xyxy) for box in record.boxes]
    return told == [(0, [0, 0, 32, 32]), (3, [34, 44, 74, 84])]


def test_the_answer_to_a_crop_lands_in_the_frame_beside_the_edges_boxes(site: Site) -> None:
    """The crop alone leaves; its box is moved into the frame, and the corner that was not sent stays."""
    with scripted_cloud(boxes) as cloud:
        site.daemon(cloud.address).run()
    records = site.records()
    crops = [record for record in records if record.decision.action is Action.SEND_CROPS]
    assert crops
    assert {jpeg_size(r.image.data) for r in cloud.requests} <= {CROP, (SIDE, SIDE)}
    assert len([r for r in cloud.requests if jpeg_size(r.image.data) == CROP]) == len(crops)
    assert all(_is_merged(record) for record in crops)
    assert remake(records).different == ()


def test_an_audit_is_of_the_whole_frame(site: Site) -> None:
    """Nothing but chance would send these frames: the cloud sees all that the edge may have missed."""
    with scripted_cloud(boxes) as cloud:
        site.daemon(cloud.address, {"audit_share": 1.0, "threshold": 1.0}).run()
    assert {record.decision.reason for record in site.records()} == {"audit"}
    assert {jpeg_size(request.image.data) for request in cloud.requests} == {(SIDE, SIDE)}


def test_what_is_hidden_in_a_frame_is_hidden_in_its_crop(site: Site) -> None:
    """The middle is black, what is around it in the crop is not."""
    with scripted_cloud(boxes) as cloud:
        redaction = {"classes": [0], "style": "fill", "margin": 0.0}
        site.daemon(cloud.address, redaction=redaction).run()
    crops = [r.image.data for r in cloud.requests if jpeg_size(r.image.data) == CROP]
    assert crops
    for data in crops:
        picture = decode_jpeg(data, 100_000)
        assert picture[20:92, 20:92].max() < 60
        assert picture[:, 100:].min() > 100


def _has_the_hidden(record: Record) -> bool:
    """Both of the edge's boxes are of class 0, which is hidden: each is there once, beside the cloud's."""
    assert record.boxes is not None
    return sorted(box.class_id for box in record.boxes) == [0, 0, 3]


def test_what_is_hidden_stays_in_the_answer(site: Site) -> None:
    """The cloud cannot see it, so the edge says where it is, in crops and in whole frames."""
    hiding: dict[str, Any] = {"redaction": {"classes": [0], "style": "fill"}}
    everything = {"audit_share": 1.0, "threshold": 1.0}
    with scripted_cloud(boxes) as cloud:
        site.daemon(cloud.address, **hiding).run()
        site.daemon(cloud.address, everything, **hiding).run()
    answers = [record for record in site.records() if record.answered_by == "cloud"]
    assert {record.decision.action for record in answers} == {Action.SEND_CROPS, Action.SEND_FRAME}
    assert all(_has_the_hidden(record) for record in answers)


@pytest.mark.parametrize(("calibration", "seen"), [(None, [3]), (Calibration(0.0, 1.0), [])])
def test_a_report_threshold_on_the_clouds_scale_holds_for_its_answers(
    site: Site, calibration: Calibration | None, seen: list[int]
) -> None:
    """What is reported does not depend on who answers; on another scale 0.85 means nothing to the cloud."""
    manifest = open_model_folder(site.model).manifest
    output = msgspec.structs.replace(manifest.output, calibration=calibration)
    write_manifest(site.model, msgspec.structs.replace(manifest, output=output))
    model = {"folder": str(site.model), "report_threshold": 0.85, "session": {"threads": 1}}
    with scripted_cloud(boxes) as cloud:
        site.daemon(cloud.address, {"audit_share": 1.0, "threshold": 1.0}, model=model).run()
    answers = [record for record in site.records() if record.answered_by == "cloud"]
    assert len(answers) == 4
    assert all([box.class_id for box in record.boxes or ()] == seen for record in answers)


def test_a_crop_that_no_server_took_is_answered_late_as_it_would_have_been_at_once(site: Site) -> None:
    """What was tried in vain waits on the disk, and the edge's boxes beside it with it."""
    spool = {"path": str(site.folder / "spool.dat"), "max_mb": 2.0}
    site.daemon(no_server_address(), spool=spool).run()
    tried = [r.frame_id for r in site.records() if r.decision.action is Action.SEND_CROPS]
    assert tried
    with scripted_cloud(boxes) as cloud:
        camera = {"source": str(site.folder / "pictures"), "fps": 1, "loop": True}
        daemon = site.daemon(cloud.address, spool=spool, camera=camera)
        runner = threading.Thread(target=daemon.run)
        runner.start()
        for _ in range(round(PATIENCE_S / POLL_S)):
            if daemon.metrics.summary().get("spool_frames[answered]", 0) >= len(tried):
                break
            runner.join(POLL_S)
        daemon.stop("seen enough")
        runner.join(PATIENCE_S)
    late = {record.frame_id: record for record in site.records() if record.revision}
    assert all(_is_merged(late[frame_id]) for frame_id in tried)


def test_what_a_crop_keeps_is_measured_or_said_and_never_believed(site: Site) -> None:
    """A variant that is small and thought to keep everything would be all that is sent."""
    uplink = {"address": "127.0.0.1:1", "variants": [{"jpeg_quality": 95, "crop": True}]}
    with pytest.raises(ConfigError, match=r"uplink\.variants: a crop needs `fidelity`"):
        site.daemon("127.0.0.1:1", uplink=uplink)


def test_a_classifier_has_nothing_to_cut_around(site: Site) -> None:
    """The error names the key, before a frame is taken."""
    model = {"folder": str(colour_classifier(site.folder / "models"))}
    with pytest.raises(ConfigError, match=r"uplink\.variants: crop"):
        site.daemon("127.0.0.1:1", model=model)
