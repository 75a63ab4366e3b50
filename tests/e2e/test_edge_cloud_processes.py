"""Edge and cloud as two processes: what happens to the frames when the cloud dies and when it comes back."""

import signal
from collections import Counter

import cv2
import numpy as np
import pytest

from tests.support.envoy import socket_folder
from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, cloud_process, edge_process

DEADLINE_S = 1.5


@pytest.fixture
def pictures(tmp_path):
    """A folder with a red, a green and a blue picture: classes 0, 1 and 2 of the tiny classifier."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, bgr in (("0.png", (0, 0, 255)), ("1.png", (0, 255, 0)), ("2.png", (255, 0, 0))):
        cv2.imwrite(str(folder / name), np.full((48, 64, 3), bgr, np.uint8))
    return folder


@pytest.fixture
def cloud_models(tmp_path):
    """The server's repository, apart from the edge's model."""
    folder = tmp_path / "cloud"
    colour_classifier(folder, name="big", gain=20.0)
    return folder


@pytest.fixture
def edge_config(tmp_path, pictures):
    """A daemon that wants the cloud's answer for every frame, 20 a second, without end."""
    return {
        "mode": "cloud_only",
        "deadline_s": DEADLINE_S,
        # Wide, because this is a shared machine and the promise is the deadline, not the margin.
        "deadline_margin_s": 0.5,
        "camera": {"source": str(pictures), "fps": 20, "loop": True, "queue_size": 64},
        "model": {"folder": str(colour_classifier(tmp_path / "edge", name="small"))},
        "uplink": {"reconnect_backoff_max_s": 1.0},
    }


def _by_cloud(record):
    return record.answered_by == "cloud" and record.revision == 0


def _degraded(record):
    return record.answered_by == "edge_degraded"


def test_frames_are_answered_while_the_cloud_is_dead_and_offload_resumes_when_it_is_back(
    tmp_path, cloud_models, edge_config
):
    """Kill -9 of the cloud midway: every frame has exactly one first answer, in time; its return is used."""
    with cloud_process(cloud_models) as (cloud, address):
        edge_config["uplink"]["address"] = address
        with edge_process(edge_config, tmp_path) as edge:
            edge.read_until(_by_cloud, count=10)
            cloud.kill()
            edge.read_until(_degraded, count=20)
            with cloud_process(cloud_models, listen=address):
                edge.read_until(_by_cloud, count=10)
                edge.process.send_signal(signal.SIGTERM)
                edge.read_to_end()
                assert edge.process.wait(LIMIT_S) == 0

    first = [record for record in edge.records if record.revision == 0]
    assert Counter(record.sequence for record in first) == Counter(range(len(first)))
    assert all(record.timings.total_s <= DEADLINE_S for record in first)
    assert all(record.error for record in first if _degraded(record))
    assert all(record.classes[0].class_id == int(record.source[0]) for record in edge.records)


def test_a_frozen_cloud_degrades_frames_at_their_deadline_and_its_answers_come_as_revisions(
    tmp_path, cloud_models, edge_config
):
    """A frozen server neither answers nor hangs up: local answers first, the cloud's as revision 1."""
    edge_config["uplink"]["late_answer_window_s"] = 60.0
    with cloud_process(cloud_models) as (cloud, address):
        edge_config["uplink"]["address"] = address
        with edge_process(edge_config, tmp_path) as edge:
            edge.read_until(_by_cloud)
            cloud.send_signal(signal.SIGSTOP)
            edge.read_until(lambda record: record.error.startswith("no answer by the deadline"))
            cloud.send_signal(signal.SIGCONT)
            edge.read_until(lambda record: record.revision == 1)
            edge.process.send_signal(signal.SIGTERM)
            edge.read_to_end()
            assert edge.process.wait(LIMIT_S) == 0

    revised = {record.frame_id for record in edge.records if record.revision == 1}
    degraded = {record.frame_id for record in edge.records if _degraded(record)}
    assert revised <= degraded
    assert all(record.model.name == "big" for record in edge.records if record.revision == 1)


def test_a_dead_address_costs_nothing_but_the_cloud(tmp_path, edge_config):
    """With no server at all every frame is answered by the edge, the reason is told, and the end is clean."""
    edge_config["uplink"]["address"] = "127.0.0.1:9"
    edge_config["camera"] |= {"loop": False, "pace": "fast"}
    with edge_process(edge_config, tmp_path) as edge:
        edge.read_to_end()
        assert edge.process.wait(LIMIT_S) == 0
    assert sorted(record.sequence for record in edge.records) == [0, 1, 2]
    assert {record.answered_by for record in edge.records} == {"edge_degraded"}


def test_an_edge_beside_the_server_may_use_its_unix_socket(tmp_path, cloud_models, edge_config):
    """The address is the file's on both sides; frames are answered by the cloud."""
    with (
        socket_folder() as folder,
        cloud_process(cloud_models, listen=f"unix:{folder}/grpc.sock") as (_, address),
    ):
        assert address == f"unix:{folder}/grpc.sock"
        edge_config["uplink"]["address"] = address
        with edge_process(edge_config, tmp_path) as edge:
            edge.read_until(_by_cloud, 5)
