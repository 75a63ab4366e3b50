"""Live cameras and the daemon: one that comes later, and what is told of it meanwhile."""

import subprocess
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from spillover.common.errors import SourceError
from spillover.edge.camera import child
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.lab.runs.check.frame_accounting import FrameAccounting
from tests.support.http_camera import HttpCamera
from tests.support.models import colour_classifier
from tests.support.processes import SPILLOVER, edge_process, free_port, is_gone
from tests.support.rpicam_vid import StandIn
from tests.support.scripted_cloud import PATIENCE_S, scripted_cloud


class Watched:
    """A daemon, edge alone, whose results and events can be asked for while it runs."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self._output = folder / "out.jsonl"
        config = {
            "mode": "edge_only",
            "model": {"folder": str(colour_classifier(folder / "models")), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(self._output)}],
        }
        self.daemon = Daemon(msgspec.convert(config | sections, EdgeConfig))

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Results and events so far."""
        whole = self._output.read_bytes().rpartition(b"\n")[0].splitlines()
        return [msgspec.json.decode(line) for line in whole]

    @property
    def states(self) -> list[tuple[str, str, str]]:
        """Camera, state and detail of each `camera_state` event."""
        events = (line for line in self.lines if line.get("event") == "camera_state")
        return [(event["camera_id"], event["state"], event["detail"]) for event in events]

    @property
    def results(self) -> list[dict[str, Any]]:
        """The results so far."""
        return [line for line in self.lines if "event" not in line]

    @contextmanager
    def running(self) -> Iterator[None]:
        """The daemon on a thread of its own, stopped at the end; its books must balance."""
        thread = threading.Thread(target=self.daemon.run)
        thread.start()
        try:
            yield
        finally:
            self.daemon.stop("seen enough")
            thread.join(PATIENCE_S)
        assert not thread.is_alive()
        frames = FrameAccounting()
        frames.add(self._output.read_bytes().splitlines())
        assert frames.report().violations == ()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition within a limit."""
        assert comes_true(condition), f"it never came: {self.states}, {self.daemon.metrics.summary()}"


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether it does within a limit; polled."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S * 20)):
        if condition():
            return True
        pause.wait(0.05)
    return False


def camera_gauge(daemon: Daemon, camera: str, state: str) -> float | None:
    """The metric of a camera's state."""
    labels = {"camera": camera, "state": state}
    return daemon.metrics.registry.get_sample_value("spillover_edge_source", labels)


def test_a_camera_that_is_not_there_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """Log (a warning with the cause), event and metric say `lost`; when it comes, frames are answered."""
    camera = HttpCamera(f"127.0.0.1:{free_port()}")
    watched = Watched(tmp_path, camera={"source": camera.url})
    with capture_logs() as log, watched.running():
        watched.until(lambda: bool(watched.states))
        [(name, state, cause)] = watched.states
        assert (name, state) == ("camera", "lost")
        assert "Connection refused" in cause
        assert camera_gauge(watched.daemon, "camera", "lost") == 1
        [told] = [line for line in log if line["event"] == "camera state"]
        assert (told["log_level"], told["detail"]) == ("warning", cause)
        camera.start()
        watched.until(lambda: bool(watched.results))
    camera.stop()
    assert [state for _, state, _ in watched.states] == ["lost", "ok"]


def test_a_clock_that_is_set_while_the_daemon_runs_leaves_no_wrong_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before is corrected by an event; what comes after it is right."""
    offset_s = [-1e8]
    moved = types.SimpleNamespace(**vars(time) | {"time": lambda: time.time() + offset_s[0]})
    monkeypatch.setattr("spillover.edge.runtime.frame_clock.time", moved)
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((48, 64, 3), np.uint8))
    camera = {"source": str(tmp_path / "one.png"), "fps": 50, "loop": True}
    watched = Watched(tmp_path, camera=camera)
    began_s = time.time()
    with watched.running():
        watched.until(lambda: len(watched.results) > 3)
        offset_s[0] = 0.0
        watched.until(lambda: any(line.get("event") == "clock_set" for line in watched.lines))
        count = len(watched.results)
        watched.until(lambda: len(watched.results) > count + 3)
    lines = watched.lines
    [at] = [number for number, line in enumerate(lines) if line.get("event") == "clock_set"]
    told = lines[at]
    assert abs(told["shift_s"] - 1e8) < 1.0
    for number, line in enumerate(lines):
        if "event" not in line:
            early = number < at and line["sequence"] <= told["to_sequence"]
            right = line["captured_unix_s"] + (told["shift_s"] if early else 0.0)
            assert began_s - 1.0 < right < time.time() + 1.0


def test_a_file_tells_its_states_too(tmp_path: Path) -> None:
    """`ok` with the size at the first picture, `ended` after the last."""
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((48, 64, 3), np.uint8))
    watched = Watched(tmp_path, camera={"source": str(tmp_path / "one.png"), "pace": "fast"})
    watched.daemon.run()
    assert watched.states == [("camera", "ok", "64x48 pixels"), ("camera", "ended", "")]


def test_a_pis_camera_that_dies_or_hangs_is_lost_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last words are the cause; no process is left behind, not even at the end."""
    stand_in = StandIn(tmp_path)
    stand_in.fail("no camera")
    monkeypatch.setenv("PATH", stand_in.path)
    monkeypatch.setattr(child, "READ_LIMIT_S", 0.5)
    watched = Watched(tmp_path, camera={"source": "csi", "csi": {"width": 64, "height": 48, "fps": 50}})

    def lost_with(words: str) -> Callable[[], bool]:
        return lambda: any(state == "lost" and words in detail for _, state, detail in watched.states)

    def goes_on() -> None:
        frames = len(watched.results)
        watched.until(lambda: len(watched.results) > frames + 5)

    with watched.running():
        watched.until(lost_with("no cameras available"))
        stand_in.fail("")
        goes_on()
        stand_in.fail("dies")
        watched.until(lost_with("ended with exit code 255: ERROR: Device timeout"))
        stand_in.fail("")
        goes_on()
        stand_in.fail("hangs")
        watched.until(lost_with("gives no picture"))
    for process_id in stand_in.process_ids:
        assert is_gone(process_id)


def test_no_child_outlives_a_killed_daemon(tmp_path: Path) -> None:
    """After kill -9 of the daemon the kernel ends what reads the camera."""
    stand_in = StandIn(tmp_path)
    config = {
        "mode": "edge_only",
        "camera": {"source": "csi", "csi": {"width": 64, "height": 48, "fps": 50}},
        "model": {"folder": str(colour_classifier(tmp_path / "models")), "session": {"threads": 1}},
    }
    with edge_process(config, tmp_path, env={"PATH": stand_in.path}) as edge:
        edge.read_until(lambda _: True, 3)
        [child_id] = stand_in.process_ids
        edge.process.kill()
        edge.process.wait(PATIENCE_S)
        assert comes_true(lambda: is_gone(child_id))


def test_a_camera_that_is_required_is_not_waited_for(tmp_path: Path) -> None:
    """`--require-camera`: exit code 5, and the cause in the last line."""
    config = {
        "camera": {"source": f"rtsp://me:s3cret@127.0.0.1:{free_port()}/cam"},
        "model": {"folder": str(colour_classifier(tmp_path / "models")), "session": {"threads": 1}},
        "mode": "edge_only",
    }
    path = tmp_path / "edge.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    command = [*SPILLOVER, "edge", "-c", str(path), "--require-camera"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert run.returncode == 5, run.stderr
    assert "Connection refused" in run.stderr.splitlines()[-1]
    assert "s3cret" not in run.stderr


def painted(path: Path, count: int, bgr: tuple[int, int, int] = (0, 0, 255)) -> str:
    """A clip of `count` pictures of one colour."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(count):
        writer.write(np.full((48, 64, 3), bgr, np.uint8))
    writer.release()
    return str(path)


def test_four_cameras_of_which_one_dies_share_a_device(tmp_path: Path) -> None:
    """Frames of all, numbers that are unique on the device; one that is lost disturbs no other."""
    network = [HttpCamera(width=64 + 16 * number) for number in range(4)]
    for camera in network:
        camera.start()
    names = ["north", "east", "south", "west"]
    cameras = [
        {"camera_id": name, "source": one.url, "fps": 10} for name, one in zip(names, network, strict=True)
    ]
    watched = Watched(tmp_path, cameras=cameras)

    def counts() -> Counter[str]:
        return Counter(result["camera_id"] for result in watched.results)

    with watched.running():
        watched.until(lambda: all(counts()[name] > 5 for name in names))
        network[1].stop()
        watched.until(lambda: ("east", "lost") in [(name, state) for name, state, _ in watched.states])
        before = counts()
        watched.until(lambda: all(counts()[name] > before[name] + 5 for name in names if name != "east"))
        assert camera_gauge(watched.daemon, "east", "lost") == 1
        assert camera_gauge(watched.daemon, "west", "ok") == 1
        network[1].start()
        watched.until(lambda: counts()["east"] > before["east"] + 5)
    for camera in network:
        camera.stop()
    results = watched.results
    assert all(one["frame_id"].startswith(f"{one['camera_id']}-") for one in results)
    assert len({one["sequence"] for one in results}) == len(results)
    assert {detail for name, _, detail in watched.states if name == "west"} == {"112x48 pixels"}


def test_files_end_the_daemon_when_all_of_them_have_ended(tmp_path: Path) -> None:
    """Every frame of each is answered, in turns; a damaged one ends alone, an error at the end."""
    long, short = painted(tmp_path / "long.avi", 30), painted(tmp_path / "short.avi", 3, (0, 255, 0))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "one.jpg").write_bytes(b"no picture")
    cameras = [
        {"camera_id": "long", "source": long, "pace": "fast"},
        {"camera_id": "short", "source": short, "pace": "fast"},
        {"camera_id": "damaged", "source": str(damaged), "pace": "fast"},
    ]
    watched = Watched(tmp_path, cameras=cameras)
    with pytest.raises(SourceError, match="damaged"):
        watched.daemon.run()
    assert Counter(result["camera_id"] for result in watched.results) == {"long": 30, "short": 3}
    assert {(name, state) for name, state, _ in watched.states} == {
        ("long", "ok"),
        ("long", "ended"),
        ("short", "ok"),
        ("short", "ended"),
        ("damaged", "ended"),
    }


def test_a_camera_may_have_a_policy_and_a_redaction_of_its_own(tmp_path: Path) -> None:
    """The same grey pictures: one camera's threshold sends them, the other's keeps them."""
    clip = painted(tmp_path / "grey.avi", 4, (90, 90, 90))
    with scripted_cloud() as cloud:
        watched = Watched(
            tmp_path,
            mode="hybrid",
            deadline_s=600.0,
            stop_timeout_s=PATIENCE_S,
            uplink={"address": cloud.address},
            policy={"audit_share": 0.0, "threshold": 0.1},
            cameras=[
                {"camera_id": "asks", "source": clip, "pace": "fast"},
                {"camera_id": "keeps", "source": clip, "pace": "fast", "policy": {"threshold": 1.0}},
            ],
        )
        watched.daemon.run()
    answered = Counter((result["camera_id"], result["answered_by"]) for result in watched.results)
    assert answered == {("asks", "cloud"): 4, ("keeps", "edge"): 4}
    assert {request.camera_id for request in cloud.requests} == {"asks"}
