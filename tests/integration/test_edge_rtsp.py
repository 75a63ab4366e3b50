"""A camera that speaks RTSP, a real server: drops, damage, another size, a picture that stands still."""

import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.doctor.camera import check_camera
from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import State
from spillover.lab.runs.check.frame_accounting import FrameAccounting
from tests.support.faulty_link import FaultyProxy, Mode
from tests.support.models import colour_classifier
from tests.support.processes import wait_until
from tests.support.scripted_cloud import PATIENCE_S
from tests.support.serving import eventually

SYSTEM_PYTHON = "/usr/bin/python3"
PROGRAM = Path(__file__).parents[1] / "support" / "rtsp_server.py"
_NEEDS = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')"


def _can_serve() -> bool:
    if not shutil.which(SYSTEM_PYTHON):
        return False
    return not subprocess.run([SYSTEM_PYTHON, "-c", _NEEDS], capture_output=True, check=False).returncode


pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("rtsp"),
    pytest.mark.skipif(
        not _can_serve(),
        reason="no RTSP server here (Debian: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi "
        "gstreamer1.0-plugins-base gstreamer1.0-plugins-good)",
    ),
]


@contextmanager
def rtsp_server(log, width=160, height=120, pattern="snow"):
    """A server as a process, and its address; killed at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SYSTEM_PYTHON, PROGRAM, "0", str(width), str(height), pattern],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        found = lambda: re.search(r"^ready (\d+)$", log.read_text(errors="replace"), re.MULTILINE)  # noqa: E731
        wait_until(lambda: found() is not None, process)
        yield f"127.0.0.1:{found()[1]}"
    finally:
        process.kill()
        process.wait()


class Watched:
    """A daemon on a camera behind a link that can be broken and led to another server."""

    def __init__(self, folder, address, **camera):
        self.output = folder / "out.jsonl"
        self.link = FaultyProxy(address)
        self.link.start()
        config = {
            "mode": "edge_only",
            "camera": {"source": f"rtsp://{self.link.address}/camera", **camera},
            "model": {"folder": str(colour_classifier(folder / "models")), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(self.output)}],
        }
        self._daemon = Daemon(msgspec.convert(config, EdgeConfig))
        self._thread = threading.Thread(target=self._daemon.run)
        self._thread.start()

    @property
    def frames(self):
        """Frames answered so far."""
        return self._daemon.metrics.summary().get("frames[edge]", 0)

    def wait_for_state(self, state, detail=""):
        """Wait for a new `camera_state` event, and for frames after it when it is `ok`."""
        pattern = re.compile(rf'"camera_state".*"state":"{state}".*{detail}'.encode())
        seen = self._events
        self._until(lambda: any(pattern.search(line) for line in self._lines()[seen:]))
        if state == "ok":
            frames = self.frames
            self._until(lambda: self.frames > frames + 2)

    def mark(self):
        """Pass over the events so far."""
        self._events = len(self._lines())

    _events = 0

    def stop(self):
        """End the daemon; its books must balance."""
        self._daemon.stop("seen enough")
        self._thread.join(PATIENCE_S)
        self.link.stop()
        assert not self._thread.is_alive()
        frames = FrameAccounting()
        frames.add(self.output.read_bytes().splitlines())
        assert frames.report().violations == ()

    def _lines(self):
        return self.output.read_bytes().splitlines()

    def _until(self, condition):
        pause = threading.Event()
        for _ in range(int(PATIENCE_S * 20)):
            if condition():
                return
            pause.wait(0.05)
        pytest.fail(f"it never came: {[line for line in self._lines() if b'camera_state' in line]}")


@pytest.fixture
def watch(tmp_path):
    """Starts a daemon on a camera; stopped at the end."""
    started = []

    def start(address, **camera):
        started.append(Watched(tmp_path, address, **camera))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_a_server_that_dies_is_connected_again_and_may_have_another_size(tmp_path, watch):
    """Kill -9 is `lost`; while nobody listens it stays lost; another server's size is told with `ok`."""
    with rtsp_server(tmp_path / "first.log") as first:
        camera = watch(first)
        camera.wait_for_state("ok", "160x120 pixels")
        camera.mark()
    camera.wait_for_state("lost")
    with rtsp_server(tmp_path / "second.log", 320, 240) as second:
        camera.link.lead_to(second)
        camera.wait_for_state("ok", "320x240 pixels")


def test_a_picture_that_stands_still_is_told_and_connected_again(tmp_path, watch):
    """An encoder that hangs gives the same picture for ever: `frozen`; when it moves again, `ok`."""
    with (
        rtsp_server(tmp_path / "still.log", pattern="circular") as still,
        rtsp_server(tmp_path / "alive.log") as alive,
    ):
        camera = watch(still, frozen_after_s=1.0)
        camera.wait_for_state("frozen", "the same picture")
        camera.mark()
        camera.link.lead_to(alive)
        camera.wait_for_state("ok")


@pytest.mark.parametrize("mode", [Mode.GARBAGE, Mode.STALL, Mode.CUT])
def test_a_stream_that_is_damaged_or_stands_still_is_lost_and_comes_back(tmp_path, watch, mode):
    """Noise in place of the stream, silence, a reset: told as `lost`, and mended with the link."""
    with rtsp_server(tmp_path / "server.log") as server:
        camera = watch(server)
        camera.wait_for_state("ok")
        camera.mark()
        camera.link.set(mode)
        camera.wait_for_state("lost")
        camera.mark()
        camera.link.set(Mode.PASS)
        camera.link.reset()
        camera.wait_for_state("ok")


def test_the_doctor_measures_a_real_camera_and_asks_the_daemon_that_holds_it(tmp_path, monkeypatch):
    """Pictures arrive and have a rate; a daemon's word is taken even where no connection could be made."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    with rtsp_server(tmp_path / "camera.log") as address:
        config = {
            "mode": "edge_only",
            "camera": {"source": f"rtsp://{address}/camera"},
            "model": {"folder": str(colour_classifier(tmp_path / "models")), "session": {"threads": 1}},
            "sinks": [{"kind": "jsonl", "path": str(tmp_path / "out.jsonl")}],
        }
        case = Case(msgspec.convert(config, EdgeConfig), tmp_path / "edge.yaml")
        (alone,) = check_camera(case.config.camera, case)
        daemon = Daemon(case.config, config_path=case.config_path)
        runner = threading.Thread(target=daemon.run)
        runner.start()
        assert eventually(lambda: daemon.status().cameras[0].captured > 10)
        case.running = daemon.status()
        daemon.stop("seen enough")
        runner.join(PATIENCE_S)
    (held,) = check_camera(case.config.camera, case)
    assert (alone.state, held.state) == (State.OK, State.OK), (alone, held)
    assert re.fullmatch(r"160x120 pixels, [\d.]+ frames/s", alone.figure)
    assert re.search(r"the daemon that runs \(process \d+\) has it open: [\d.]+ frames/s", held.figure)
