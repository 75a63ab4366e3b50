"""A camera that is a child process: its pictures, and every way in which it can fail."""

import signal
import sys
import threading

import msgspec
import numpy as np
import pytest

from spillover.common.config import parse_config
from spillover.common.errors import ConfigError, SourceError
from spillover.edge.camera.child import READ_LIMIT_S, ChildSource
from spillover.edge.camera.open import is_live, open_camera
from spillover.edge.camera.pictures import RawPictures
from spillover.edge.camera.reconnecting import ResilientSource
from spillover.edge.camera.source import CameraState
from spillover.edge.config import CameraConfig
from tests.support.processes import LIMIT_S, is_gone
from tests.support.rpicam_vid import StandIn

PICTURE = "import sys, os; w = lambda n: os.write(1, bytes([n]) * 12)\n"
"""What programs begin with: `w(n)` writes 2 x 2 pixels of value n."""


def child(program, clock=None):
    """A source of 2 x 2 BGR pixels from a Python program."""
    command = [sys.executable, "-ISc", PICTURE + program]
    return ChildSource("camera-program", command, RawPictures(2, 2), **({"clock": clock} if clock else {}))


def ends(source, words):
    """The source fails, and says so in these words."""
    with pytest.raises(SourceError, match=words):
        source.read()
    source.close()


def wait_until_gone(process_id):
    """Within a limit: the kernel takes its time to end what was killed."""
    pause = threading.Event()
    for _ in range(LIMIT_S * 100):
        if is_gone(process_id):
            return
        pause.wait(0.01)
    pytest.fail(f"process {process_id} still runs")


def test_pictures_come_and_the_end_has_its_code_and_last_line():
    """What it wrote last to standard error is the cause."""
    source = child("w(1); w(2); print('bad lens', file=sys.stderr); sys.exit(3)")
    assert [int(source.read().image[0, 0, 0]) for _ in range(2)] == [1, 2]
    ends(source, "camera-program ended with exit code 3: bad lens$")


def test_half_a_picture_is_none():
    """A program that ends inside of a picture gives an error, not half a picture."""
    ends(child("os.write(1, bytes(7))"), "ended with exit code 0")


def test_a_killed_program_names_the_signal():
    """As by the kernel when memory is short."""
    ends(child("os.kill(os.getpid(), 9)"), "was killed by SIGKILL")


def test_a_signal_without_a_name_is_told_by_its_number():
    """Real-time signals have none; to ask for it ended the daemon."""
    number = signal.SIGRTMIN + 6
    ends(child(f"os.kill(os.getpid(), {number})"), f"was killed by signal {number}$")


def test_the_last_line_of_a_program_tells_no_password_and_moves_no_cursor():
    """A program such as ffmpeg repeats the URL that it was given, and log and status tell it."""
    text = "'\\x1b[2Jrtsp://admin:hunter2@192.0.2.7/stream: 401 ' + 'x' * 1500"
    source = child(f"print({text}, file=sys.stderr)")
    with pytest.raises(SourceError) as told:
        source.read()
    source.close()
    assert "rtsp://admin:***@192.0.2.7/stream: 401" in str(told.value)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 500
    source = child("print('rtsp://admin:hunter2@192.0.2.7/ 401' + ' x' * 990, file=sys.stderr)")
    with pytest.raises(SourceError) as told:
        source.read()
    source.close()
    assert "ter2" not in str(told.value)


def test_a_program_that_hangs_is_given_up_and_killed():
    """Without a picture for the limit: an error, and `close` leaves no process behind."""
    now_s, step_s = [0.0], [0.0]

    def clock():
        now_s[0] += step_s[0]
        return now_s[0]

    source = child("w(1); import time; time.sleep(1000)", clock)
    source.read()
    step_s[0] = READ_LIMIT_S  # each look at the clock is that much later
    ends(source, "gives no picture")
    assert is_gone(source._process.pid)


def test_an_interrupt_ends_a_wait_for_a_process_that_hangs():
    """As at the stop of the daemon: the read ends at once, and says nothing of a lost camera."""
    states, hangs = [], "w(1); import time; time.sleep(1000)"
    source = ResilientSource(lambda: child(hangs), lambda state, _: states.append(state), 10.0)
    assert source.read() is not None
    found = []
    reader = threading.Thread(target=lambda: found.append(source.read()))
    reader.start()
    source.interrupt()
    reader.join(LIMIT_S)
    source.close()
    assert found == [None]
    assert states == [CameraState.OK]


def test_a_script_that_ends_leaves_nothing_behind(tmp_path):
    """It ends by itself, and what it has started goes on without its pipe: `close` ends that too."""
    note = tmp_path / "id"
    script = f"sleep 1000 >&- 2>&- & echo $! > {note}; echo 'ends early' >&2; exit 4"
    source = ChildSource("script", ["/bin/sh", "-c", script], RawPictures(2, 2))
    ends(source, "script ended with exit code 4: ends early")
    wait_until_gone(int(note.read_text()))


def test_what_a_program_says_never_stops_it():
    """Megabytes on standard error are read and forgotten but for the end."""
    source = child("[os.write(2, b'x' * 60000 + b'\\n') for _ in range(50)]; w(7); sys.exit('the end')")
    assert int(source.read().image[0, 0, 0]) == 7
    ends(source, ": the end$")


def test_what_the_program_has_started_ends_with_it(tmp_path):
    """A script that runs the real program behind it: both are killed."""
    note = tmp_path / "id"
    script = f"sleep 1000 & echo $! > {note}; printf 123456789012; wait"
    source = ChildSource("script", ["/bin/sh", "-c", script], RawPictures(2, 2))
    source.read()
    grandchild = int(note.read_text())
    assert not is_gone(grandchild)
    source.close()
    wait_until_gone(grandchild)


def config_of(text):
    """The camera of a configuration."""
    return parse_config(text, CameraConfig, "camera")


def test_a_command_is_run_without_a_shell():
    """Arguments reach the program as they stand there."""
    code = "import os, sys; os.write(1, bytes([len(sys.argv[1])]) * 12)"
    command = {
        "arguments": [sys.executable, "-c", code, "; $HOME *"],
        "format": "bgr",
        "width": 2,
        "height": 2,
    }
    source = open_camera(msgspec.convert({"source": "command", "command": command}, CameraConfig))
    assert int(source.read().image[0, 0, 0]) == len("; $HOME *")
    source.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{source: command}", "source: command needs the key `command`"),
        (
            "{source: v, command: {arguments: [a], format: mjpeg}}",
            "command: is only run for source: command",
        ),
        (
            "{source: command, command: {arguments: [a], format: bgr}}",
            "command.width: is needed for format: bgr",
        ),
        (
            "{source: command, command: {arguments: [a], format: yuv420, width: 3, height: 2}}",
            "command.width: must be even",
        ),
        ("{source: command, command: {arguments: [], format: mjpeg}}", "at least 1 item"),
        ("{source: csi, csi: {width: 650}}", "multiple of 64"),
    ],
)
def test_what_cannot_be_read_is_refused(text, words):
    """Raw pictures need a size that fits them."""
    with pytest.raises(ConfigError, match=words):
        config_of(text)


def test_a_missing_program_is_named(monkeypatch, tmp_path):
    """The command's by its name; for a Pi's camera with the package that brings it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    command = "{source: command, command: {arguments: [no-such-program], format: mjpeg}}"
    with pytest.raises(SourceError, match="no program no-such-program"):
        open_camera(config_of(command))
    with pytest.raises(SourceError, match="apt-get install rpicam-apps-lite"):
        open_camera(config_of("{source: csi}"))


@pytest.mark.parametrize("name", ["rpicam-vid", "libcamera-vid"])
def test_a_pis_camera_is_read_through_rpicam_vid(monkeypatch, tmp_path, name):
    """By its newer or older name, with the options of the configuration; the pictures are the clip's."""
    stand_in = StandIn(tmp_path)
    (stand_in.folder / "rpicam-vid").rename(stand_in.folder / name)
    monkeypatch.setenv("PATH", str(stand_in.folder))
    source = open_camera(
        config_of("{source: 'libcamera:1', csi: {width: 64, height: 48, fps: 100, arguments: [--hflip]}}")
    )
    found = [source.read().image.astype(int) for _ in range(3)]
    source.close()
    assert all(abs(one - two).max() < 8 for one, two in zip(found, stand_in.pictures[:3], strict=True))
    wanted = {"--camera=1", "--width=64", "--height=48", "--framerate=100", "--hflip", "--codec=yuv420"}
    assert wanted <= set(stand_in.arguments)
    assert isinstance(found[0], np.ndarray)


def test_a_pi_without_a_camera_says_so(monkeypatch, tmp_path):
    """rpicam-vid's own last line is the cause."""
    stand_in = StandIn(tmp_path)
    stand_in.fail("no camera")
    monkeypatch.setenv("PATH", stand_in.path)
    source = open_camera(config_of("{source: csi, csi: {width: 64, height: 48}}"))
    ends(source, r"rpicam-vid ended with exit code 1: ERROR: \*\*\* no cameras available")


@pytest.mark.parametrize("source", ["csi", "csi:1", "libcamera", "libcamera:0", "command", "rtsp://x", "0"])
def test_cameras_are_waited_for(source):
    """All that may come later."""
    assert is_live(source)


@pytest.mark.parametrize("source", ["clip.mp4", "csi.mp4", "pictures/"])
def test_files_are_not_waited_for(source):
    """They never come by themselves."""
    assert not is_live(source)
