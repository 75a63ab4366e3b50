"""What a daemon sends for its tracks: by value, in the small form, over real gRPC; replay makes it again."""

from pathlib import Path

import numpy as np
import pytest

from spillover.common.images import decode_jpeg
from spillover.lab.pairs.replay.remake import remake
from spillover.lab.records import read_records
from tests.support.moving import Walker, World
from tests.support.scripted_cloud import scripted_cloud
from tests.support.tracked import Street, says

TWO = World((Walker(40, 60, dx=1), Walker(220, 120, dx=-1, class_id=2)))
AUTO = {"kind": "auto", "threshold": None, "send_share": 0.2}


@pytest.fixture
def street(tmp_path: Path) -> Street:
    """A street in a folder of its own."""
    return Street(tmp_path)


def test_a_tracked_camera_refreshes_regularly_with_small_pictures(street: Street) -> None:
    """About the share is sent, at even distances, in the form of 416 pixels; each decision follows."""
    street.film(TWO, 60, size=(640, 480))

    def wide(number: int):  # type: ignore[no-untyped-def]  # as `World.boxes`, on the larger pictures
        boxes = TWO.boxes(number)
        height, width = TWO.picture(0).shape[:2]
        return type(boxes)(
            boxes.xyxy * np.float32([640 / width, 480 / height] * 2), boxes.confidence, boxes.class_id
        )

    with scripted_cloud(says(wide)) as cloud:
        seen = street.run(wide, policy=AUTO, uplink={"address": cloud.address, "jpeg_quality": 85})
        shapes = {max(decode_jpeg(request.image.data, 1_000_000).shape) for request in cloud.requests}
    sent = [record for record in seen.first if record.decision.payload]
    assert 8 <= len(sent) <= 18
    by_tracks = [record for record in sent if "tracks.shown" in record.decision.inputs]
    assert {record.decision.payload for record in by_tracks} == {"picture-q75-416"}
    assert 416 in shapes
    gaps = np.diff([record.sequence for record in by_tracks])
    assert gaps.max() <= 15
    records = read_records(street.log)
    again = remake(records)
    assert again.decisions == 60
    assert again.different == ()


def test_pictures_that_share_nothing_are_judged_one_by_one(street: Street) -> None:
    """Each is the first of its scene: scores, and the usual form, are those without tracking."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        street.add(rng.integers(0, 255, (120, 160, 3), np.uint8))
    decisions = []
    for tracking in ({}, None):
        with scripted_cloud(says(TWO.boxes)) as cloud:
            seen = street.run(
                TWO.boxes,
                sent=range(0, 30, 3),
                tracking=tracking,
                uplink={"address": cloud.address},
            )
        decisions.append([(one.decision.score, one.decision.payload) for one in seen.first])
        street.log.unlink()
    assert decisions[0] == decisions[1]
