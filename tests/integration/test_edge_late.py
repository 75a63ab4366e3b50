"""Frames that the link could not take: kept on the disk, answered late, accounted for once."""

import fcntl
import itertools
import os
import threading
import time
import types
import urllib.request
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from spillover.common.images import decode_jpeg
from spillover.common.types import Action
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.spool.arena import Arena
from spillover.edge.spool.frames import SpooledFrame
from spillover.lab.records import read_records
from spillover.lab.runs.check.cli import waiting_in
from spillover.lab.runs.check.frame_accounting import FrameAccounting
from tests.support.faulty_link import FaultyProxy, Mode
from tests.support.models import SIDE, centre_detector, colour_classifier
from tests.support.scripted_cloud import PATIENCE_S, answers, no_server_address, scripted_cloud


@pytest.fixture
def pictures(tmp_path):
    """Six pictures of noise."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(6):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 255, (4 * SIDE, 4 * SIDE, 3), np.uint8))
    return folder


def _config(tmp_path: Path, pictures: Path, address: str, **sections: object) -> EdgeConfig:
    base = {
        "mode": "cloud_only",
        "camera": {"source": str(pictures), "pace": "realtime", "fps": 200, "queue_size": 100},
        "model": {"folder": str(colour_classifier(tmp_path / "models")), "session": {"threads": 1}},
        "uplink": {"address": address, "breaker_pause_max_s": 0.5},
        "spool": {"path": str(tmp_path / "spool.dat"), "max_mb": 2.0},
        "sinks": [{"kind": "jsonl", "path": str(tmp_path / "out.jsonl"), "decision": "full"}],
        "deadline_s": PATIENCE_S,
        "stop_timeout_s": PATIENCE_S,
    }
    return msgspec.convert(base | sections, EdgeConfig)


def _books(tmp_path: Path):
    frames = FrameAccounting()
    with (tmp_path / "out.jsonl").open("rb") as lines:
        frames.add(lines)
    spool = tmp_path / "spool.dat"
    return frames.report(on_disk=waiting_in(spool) if spool.exists() else None)


def _spooled(tmp_path: Path) -> list[SpooledFrame]:
    arena = Arena(tmp_path / "spool.dat", 2_000_000)
    found = [SpooledFrame(arena.read(header.record_id) or b"") for header, _ in arena.places()]
    arena.close()
    return found


def test_what_one_run_could_not_send_the_next_one_delivers(tmp_path, pictures):
    """No server at all, then a restart with one: every frame degraded first, its late answer a revision."""
    Daemon(_config(tmp_path, pictures, no_server_address())).run()
    assert len(_spooled(tmp_path)) == 6
    with scripted_cloud(answers) as cloud:
        daemon = Daemon(
            _config(tmp_path, pictures, cloud.address, camera={"source": str(pictures), "loop": True})
        )
        runner = threading.Thread(target=daemon.run)
        runner.start()
        _until(lambda: daemon.metrics.summary().get("spool_frames[answered]", 0) == 6)
        daemon.stop("seen enough")
        runner.join(PATIENCE_S)
    verdict = _books(tmp_path)
    assert (verdict.violations, verdict.fates) == ((), {"answered": 6})
    late = [record for record in read_records(tmp_path / "out.jsonl") if record.revision]
    assert {record.answered_by for record in late} == {"cloud"}
    assert all(record.classes and record.classes[0].class_id == 2 for record in late)
    # The request is the one that the first run would have made: its boot and number tell the server.
    boots = {request.boot_id for request in cloud.requests}
    assert len(boots) == 2


def test_with_the_breaker_open_no_call_is_made_and_the_decision_says_so(tmp_path, pictures):
    """After five failures frames are not even tried: they are spooled, for the reason `breaker open`."""
    camera = {
        "source": str(pictures),
        "pace": "realtime",
        "fps": 50,
        "loop": True,
        "max_frames": 40,
        "queue_size": 40,
    }
    link = FaultyProxy(no_server_address())
    link.set(Mode.CUT)
    with link:
        Daemon(_config(tmp_path, pictures, link.address, camera=camera)).run()
    records = read_records(tmp_path / "out.jsonl")
    assert len(records) == 40
    assert {record.answered_by for record in records} == {"edge_degraded"}
    held = [record for record in records if record.decision.reason == "breaker open"]
    assert len(held) >= 20
    assert all(
        record.decision.action is Action.SPOOL and record.decision.inputs["breaker"] for record in held
    )
    assert link.connections < 20


def test_people_are_hidden_in_what_leaves_and_in_what_waits(tmp_path):
    """The bytes that left and those on the disk: the box is black, the rest of the picture is there."""
    folder = tmp_path / "white"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.full((64, 64, 3), 255, np.uint8))
    keys = {
        "model": {"folder": str(centre_detector(tmp_path / "models"))},
        "redaction": {"classes": [0], "style": "fill", "margin": 0.0},
        "uplink": {"address": "", "jpeg_quality": 95},
    }
    with scripted_cloud(answers) as cloud:
        Daemon(_config(tmp_path, folder, "", **keys | {"uplink": {"address": cloud.address}})).run()
    Daemon(_config(tmp_path, folder, "", **keys | {"uplink": {"address": no_server_address()}})).run()
    sent = cloud.requests[0].image.data
    kept = _spooled(tmp_path)[-1].encoded_frame.payload.data
    for picture in (decode_jpeg(sent, 10_000), decode_jpeg(kept, 10_000)):
        assert picture[20:44, 20:44].max() < 60
        assert picture[:8].min() > 200


def test_the_metrics_add_up_while_it_runs(tmp_path, pictures):
    """What the endpoint says of the spool agrees with the disk."""
    config = _config(tmp_path, pictures, no_server_address())
    daemon = Daemon(config)
    daemon.run()
    counted = daemon.metrics.summary()
    assert counted["spool_frames[accepted]"] == len(_spooled(tmp_path)) == 6
    assert counted["frames_captured"] == counted["frames[edge_degraded]"] == 6


def test_a_sink_that_never_takes_anything_does_not_hold_up_the_camera(tmp_path, pictures):
    """A pipe that nobody reads beside a file: every frame is in the file, the pipe's are counted as lost."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)  # opened, and never read
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    sinks = [
        {"kind": "jsonl", "path": str(tmp_path / "pipe"), "queue_size": 4},
        {"kind": "jsonl", "path": str(tmp_path / "out.jsonl")},
    ]
    camera = {"source": str(pictures), "fps": 200, "loop": True, "max_frames": 100, "queue_size": 100}
    daemon = Daemon(_config(tmp_path, pictures, "", mode="edge_only", camera=camera, sinks=sinks, uplink={}))
    runner = threading.Thread(target=daemon.run)
    runner.start()
    _until(lambda: daemon.metrics.summary().get("frames[edge]", 0) == 100)
    os.close(reader)  # the writer is let go, or the end would wait for it
    runner.join(PATIENCE_S)
    assert daemon.metrics.summary()["results_dropped[0:jsonl,queue full]"] > 0
    assert len(read_records(tmp_path / "out.jsonl")) == 100


def test_a_wall_clock_that_jumps_changes_no_ending(tmp_path, pictures, monkeypatch):
    """Years forward and back between frames: deadlines, spool and books do not notice."""
    jumps = itertools.cycle([0.0, 1e8, -1e8, 3600.0, -1.7e9])
    # Where the edge reads the wall clock. Not in gRPC, whose own deadlines begin with a single look at it.
    jumping = types.SimpleNamespace(**vars(time) | {"time": lambda: time.time() + next(jumps)})
    for place in ("spillover.edge.runtime.frame_clock.time", "spillover.edge.telemetry.frame_events.time"):
        monkeypatch.setattr(place, jumping)
    Daemon(_config(tmp_path, pictures, no_server_address())).run()
    with scripted_cloud(answers) as cloud:
        daemon = Daemon(
            _config(tmp_path, pictures, cloud.address, camera={"source": str(pictures), "loop": True})
        )
        runner = threading.Thread(target=daemon.run)
        runner.start()
        _until(lambda: daemon.metrics.summary().get("spool_frames[answered]", 0) == 6)
        daemon.stop("seen enough")
        runner.join(PATIENCE_S)
    verdict = _books(tmp_path)
    assert (verdict.violations, verdict.fates) == ((), {"answered": 6})


def _until(condition) -> None:
    """Wait for something that is bound to come."""
    done = threading.Event()
    for _ in range(int(PATIENCE_S * 50)):
        if condition():
            return
        done.wait(0.02)
    pytest.fail("it never came")


class _Stream:
    """A camera on the network: MJPEG over HTTP, which the test cuts and brings back."""

    def __init__(self) -> None:
        import http.server

        stream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    for number in range(10**9):
                        if stream.cut.is_set():
                            return
                        size = stream.size
                        image = np.full((*size, 3), number * 37 % 255, np.uint8)
                        data = cv2.imencode(".jpg", image)[1].tobytes()
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                        self.wfile.write(head.encode() + data + b"\r\n")
                        threading.Event().wait(0.03)
                except OSError:
                    return

            def log_message(self, *_):
                pass

        self.cut = threading.Event()
        self.size = (48, 64)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/cam.mjpg"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End it."""
        self.cut.set()
        self.server.shutdown()
        self.server.server_close()


def test_a_network_camera_that_drops_is_connected_again(tmp_path):
    """A real stream ends in the middle: `lost` is told, it comes back in another size, frames go on."""
    stream = _Stream()
    try:
        urllib.request.urlopen(stream.url, timeout=10).close()
        daemon = Daemon(
            _config(tmp_path, tmp_path, "", mode="edge_only", camera={"source": stream.url}, uplink={})
        )
        runner = threading.Thread(target=daemon.run)
        runner.start()
        _until(lambda: daemon.metrics.summary().get("frames[edge]", 0) >= 3)
        stream.cut.set()
        _until(lambda: b'"state":"lost"' in (tmp_path / "out.jsonl").read_bytes())
        stream.size = (96, 128)
        stream.cut.clear()
        _until(lambda: b"128x96 pixels" in (tmp_path / "out.jsonl").read_bytes())
        daemon.stop("seen enough")
        runner.join(PATIENCE_S)
        assert not runner.is_alive()
    finally:
        stream.close()
    assert _books(tmp_path).violations == ()
