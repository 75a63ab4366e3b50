"""Live cameras and the daemon: one that comes later, and what is told of it meanwhile."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.lab.runs.check.frame_accounting import FrameAccounting
from tests.support.http_camera import HttpCamera
from tests.support.models import colour_classifier
from tests.support.processes import SPILLOVER, free_port
from tests.support.scripted_cloud import PATIENCE_S


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
        pause = threading.Event()
        for _ in range(int(PATIENCE_S * 20)):
            if condition():
                return
            pause.wait(0.05)
        pytest.fail(f"it never came: {self.states}, {self.daemon.metrics.summary()}")


def camera_gauge(daemon: Daemon, state: str, **labels: str) -> float | None:
    """The metric of a camera's state."""
    return daemon.metrics.registry.get_sample_value("spillover_edge_camera", {"state": state} | labels)


def test_a_camera_that_is_not_there_at_the_start_is_waited_for(tmp_path: Path) -> None:
    """Log (a warning with the cause), event and metric say `lost`; when it comes, frames are answered."""
    camera = HttpCamera(f"127.0.0.1:{free_port()}")
    watched = Watched(tmp_path, camera={"source": camera.url})
    with capture_logs() as log, watched.running():
        watched.until(lambda: bool(watched.states))
        [(name, state, cause)] = watched.states
        assert (name, state) == ("camera", "lost")
        assert "Connection refused" in cause
        assert camera_gauge(watched.daemon, "lost") == 1
        [told] = [line for line in log if line["event"] == "camera state"]
        assert (told["log_level"], told["detail"]) == ("warning", cause)
        camera.start()
        watched.until(lambda: bool(watched.results))
    camera.stop()
    assert [state for _, state, _ in watched.states] == ["lost", "ok"]


def test_a_file_tells_its_states_too(tmp_path: Path) -> None:
    """`ok` with the size at the first picture, `ended` after the last."""
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((48, 64, 3), np.uint8))
    watched = Watched(tmp_path, camera={"source": str(tmp_path / "one.png"), "pace": "fast"})
    watched.daemon.run()
    assert watched.states == [("camera", "ok", "64x48 pixels"), ("camera", "ended", "")]


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
