"""Why a camera cannot be opened: one line that names the cause."""

import grp
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from spillover.common.errors import SourceError
from spillover.edge.camera.diagnosis import why_no_device, why_no_stream
from spillover.edge.camera.open import open_source
from tests.support.processes import free_port

_HOLD = "import sys; held = open(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_an_absent_device_is_named():
    """As by the daemon: the device's path, and that it is not there."""
    with pytest.raises(SourceError, match="there is no /dev/video97"):
        open_source("97")


def test_a_device_that_another_process_holds_is_busy(tmp_path):
    """The process that has it open is named."""
    device = tmp_path / "video0"
    device.touch()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(device)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        busy = rf"video0 is busy: python\S* \(process {holder.pid}\) has it open"
        assert re.search(busy, why_no_device(device))
    assert "is there, but gives no picture" in why_no_device(device)


def test_a_device_without_permission_names_the_group(tmp_path):
    """What is to be done about it: the group that may. Root, who may open all, asks as somebody else."""
    script = (
        "import os, sys; from pathlib import Path; from spillover.edge.camera.diagnosis import why_no_device;"
        "os.geteuid() or os.seteuid(65534); print(why_no_device(Path(sys.argv[1])))"
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's own may be root's alone
        Path(folder).chmod(0o755)
        device = Path(folder) / "video0"
        device.touch(mode=0o000)
        command = [sys.executable, "-c", script, str(device)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        group = grp.getgrgid(device.stat().st_gid).gr_name
    assert told == f"no permission for {device}: this user must be in the group {group}\n"


def test_a_host_that_nobody_listens_on_is_told_without_the_password():
    """Address and cause; the login that stands in the URL does not appear."""
    port = free_port()
    with pytest.raises(SourceError, match=f"127.0.0.1:{port}: Connection refused") as told:
        open_source(f"rtsp://admin:s3cret@127.0.0.1:{port}/cam")
    assert "s3cret" not in str(told.value)


def test_a_server_that_is_no_camera_is_told_apart_from_none():
    """Somebody listens: path, user or password are wrong."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        why = why_no_stream(f"http://me:s3cret@127.0.0.1:{server.getsockname()[1]}/video")
    assert "answers, but gives no video" in why
    assert "s3cret" not in why
