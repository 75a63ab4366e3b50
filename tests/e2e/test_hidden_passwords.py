"""A password in the camera's address is in nothing that the daemon writes, logs or answers."""

import base64
import http.server
import os
import signal
import subprocess
import threading
import urllib.request
from contextlib import contextmanager, suppress

import cv2
import msgspec
import numpy as np
import pytest

from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, SPILLOVER, free_port, wait_until

PASSWORD = "s3cr3t/@w"


class _Camera(http.server.BaseHTTPRequestHandler):
    """Sends pictures without end to those who know the password, in either way."""

    def do_GET(self):
        login = f"Basic {base64.b64encode(f'admin:{PASSWORD}'.encode()).decode()}"
        if self.headers["Authorization"] != login and f"pwd={PASSWORD}" not in self.path:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        draw = np.random.default_rng(1)
        while not self.server.refuses.is_set():
            picture = cv2.imencode(".jpg", draw.integers(0, 255, (48, 64, 3), np.uint8))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + picture + b"\r\n")
            except OSError:
                return
            self.server.refuses.wait(0.02)

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def _camera():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Camera)
    server.daemon_threads = True
    server.refuses = threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.refuses.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _edge(folder, camera, environ, **more):
    """A daemon as a process, and what it has logged so far."""
    config = {
        "mode": "edge_only",
        "camera": camera,
        "model": {"folder": str(colour_classifier(folder / "models")), "session": {"threads": 1}},
        "sinks": [
            {"kind": "jsonl", "path": str(folder / "out.jsonl")},
            {"kind": "sqlite", "path": str(folder / "out.db")},
        ],
    }
    (folder / "edge.yaml").write_bytes(msgspec.yaml.encode(config | more))
    (folder / "written").mkdir()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*SPILLOVER, "edge", "-c", str(folder / "edge.yaml")],
            stdout=log,
            stderr=log,
            env={**os.environ, **environ, "SPILLOVER_HOME": str(folder / "home")},
        )
    try:
        yield process, lambda: (folder / "log").read_text(errors="replace")
    finally:
        process.kill()
        process.wait()


def _written(folder):
    """Everything that the daemon has written, by file."""
    ours = [path for path in folder.rglob("*") if path.is_file() and path.name != "edge.yaml"]
    return {path.name: path.read_bytes() for path in ours if "models" not in path.parts}


@pytest.mark.parametrize("style", ["before the host", "in the query", "in a file", "in the environment"])
def test_a_running_daemon_never_tells_it(tmp_path, style):
    """From `ready` over a lost camera to the end: log, results, events, database, metrics."""
    port = free_port()
    with _camera() as camera:
        address = f"127.0.0.1:{camera.server_port}"
        encoded = PASSWORD.replace("/", "%2F").replace("@", "%40")
        source = {
            "before the host": f"http://admin:{encoded}@{address}/video.mjpg",
            "in the query": f"http://{address}/video.mjpg?user=admin&pwd={PASSWORD}",
            "in a file": f"http://admin@{address}/video.mjpg",
            "in the environment": f"http://admin:${{CAMERA_PASSWORD}}@{address}/video.mjpg",
        }[style]
        camera_keys = {"source": source}
        if style == "in a file":
            password = tmp_path / "models" / "password"
            password.parent.mkdir()
            password.write_text(f"{PASSWORD}\n")
            camera_keys["password_file"] = str(password)
        with _edge(
            tmp_path, camera_keys, {"CAMERA_PASSWORD": encoded}, metrics_address=f"127.0.0.1:{port}"
        ) as (process, log):
            wait_until(lambda: "ready" in log(), process)
            wait_until(lambda: (tmp_path / "out.jsonl").read_bytes().count(b"frame_id") > 5, process)
            camera.refuses.set()
            wait_until(lambda: b'"lost"' in (tmp_path / "out.jsonl").read_bytes(), process)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
                assert b"s3cr3t" not in page.read()
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT_S) == 0, log()
    written = _written(tmp_path)
    assert f"{address}/video.mjpg" in log(), "the camera is still named"
    assert {"out.jsonl", "out.db", "log"} <= written.keys()
    assert [name for name, data in written.items() if b"s3cr3t" in data] == []


def test_a_camera_that_cannot_be_opened_is_named_without_it(tmp_path):
    """OpenCV's error too."""
    source = f"rtsp://admin:s3cr3t@127.0.0.1:{free_port()}/cam"
    with _edge(tmp_path, {"source": source}, {}) as (process, log):
        for _ in range(LIMIT_S * 10):
            if "rtsp://" in log():
                break
            with suppress(subprocess.TimeoutExpired):  # at its end, all is written
                process.wait(0.1)
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)
    assert "rtsp://admin:***@127.0.0.1" in log()
    assert [name for name, data in _written(tmp_path).items() if b"s3cr3t" in data] == []
