"""A daemon with four cameras as a process: two on the network, of which one dies, and two files."""

import signal
from collections import Counter

import cv2
import numpy as np

from tests.support.http_camera import HttpCamera
from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, edge_process


def clip(path, frames):
    """A clip of grey pictures, which is read at its own rate."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for value in range(frames):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    return str(path)


def test_a_camera_that_dies_and_files_that_end_disturb_no_other(tmp_path):
    """Every frame of the files is answered; the camera that lives goes on while the other is away."""
    lives, dies = HttpCamera(), HttpCamera()
    lives.start()
    dies.start()
    sources = {
        "lives": lives.url,
        "dies": dies.url,
        "short": clip(tmp_path / "short.avi", 5),
        "long": clip(tmp_path / "long.avi", 25),
    }
    config = {
        "mode": "edge_only",
        "cameras": [
            {"camera_id": name, "source": source, "queue_size": 64} for name, source in sources.items()
        ],
        "model": {"folder": str(colour_classifier(tmp_path / "models")), "session": {"threads": 1}},
    }
    with edge_process(config, tmp_path) as edge:
        edge.read_until(lambda record: record.camera_id == "dies", 3)
        dies.stop()
        edge.read_until(lambda record: record.camera_id == "lives", 20)
        dies.start()
        edge.read_until(lambda record: record.camera_id == "dies", 3)
        edge.read_until(lambda _: sum(record.camera_id == "long" for record in edge.records) == 25)
        edge.process.send_signal(signal.SIGTERM)
        edge.read_to_end()
        assert edge.process.wait(LIMIT_S) == 0
    for camera in (lives, dies):
        camera.stop()
    counts = Counter(record.camera_id for record in edge.records)
    assert (counts["short"], counts["long"]) == (5, 25)
    assert len({record.sequence for record in edge.records}) == len(edge.records)
