"""Sinks that cannot take anything, beside one that can: the camera goes on, and what can wait waits."""

import sqlite3
import threading
from contextlib import closing, contextmanager

import cv2
import msgspec
import numpy as np
import pytest

from spillover.common.errors import SpilloverError
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.lab.records import read_records
from tests.chaos.disk import CannotHappenHereError, Disk
from tests.support.models import SIDE, colour_classifier
from tests.support.processes import free_port
from tests.support.scripted_cloud import PATIENCE_S

pytestmark = pytest.mark.slow

FRAMES = 60


def _daemon(tmp_path, *sinks, frames):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "0.png"), np.full((SIDE, SIDE, 3), 200, np.uint8))
    camera = {"source": str(tmp_path / "pictures"), "fps": 50, "loop": True}
    config = {
        "mode": "edge_only",
        "camera": camera | {"max_frames": frames, "queue_size": FRAMES},
        "model": {"folder": str(colour_classifier(tmp_path / "models")), "session": {"threads": 1}},
        "sinks": list(sinks),
    }
    return Daemon(msgspec.convert(config, EdgeConfig))


@contextmanager
def _locked(database):
    """Somebody else writes, and does not come to an end."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("begin immediate")
        yield
        other.execute("rollback")


@pytest.mark.needs("small-disk")
@pytest.mark.parametrize("trouble", ["locked", "full"])
def test_a_database_that_takes_nothing_stalls_nobody_and_misses_nothing(tmp_path, trouble):
    """Frames go on into the file beside it while the database is stuck; afterwards it has every one."""
    disk = Disk(tmp_path / "disk", 8)
    database, lines = disk.folder / "r.db", tmp_path / "out.jsonl"
    sinks = {"kind": "sqlite", "path": str(database)}, {"kind": "jsonl", "path": str(lines)}
    try:
        daemon = _daemon(tmp_path, *sinks, frames=0)
        with _running(daemon), _locked(database) if trouble == "locked" else disk.full():
            before = _count(daemon)
            _until(lambda: _count(daemon) >= before + FRAMES)
        expected = {record.frame_id for record in read_records(lines)}
        with closing(sqlite3.connect(database)) as reader:
            assert {row[0] for row in reader.execute("select frame_id from results")} == expected
        assert _count(daemon) == len(expected) >= FRAMES
        assert not any(name.startswith("results_dropped") for name in daemon.metrics.summary())
    except CannotHappenHereError as why:
        pytest.skip(str(why))
    finally:
        disk.close()


@contextmanager
def _running(daemon):
    runner = threading.Thread(target=daemon.run)
    runner.start()
    try:
        yield
    finally:
        daemon.stop("seen enough")
        runner.join(PATIENCE_S)


def _count(daemon):
    return daemon.metrics.summary().get("frames[edge]", 0)


def _until(condition):
    pause = threading.Event()
    for _ in range(int(PATIENCE_S * 20)):
        if condition():
            return
        pause.wait(0.05)
    pytest.fail("it never came")


def test_a_database_that_never_takes_anything_fails_the_run(tmp_path):
    """Locked from beginning to end: each result is counted as lost, and the daemon's end says so."""
    daemon = _daemon(tmp_path, {"kind": "sqlite", "path": str(tmp_path / "r.db")}, frames=5)
    with _locked(tmp_path / "r.db"), pytest.raises(SpilloverError, match="not one result"):
        daemon.run()
    assert daemon.metrics.summary()["results_dropped[0:sqlite,write failed]"] == 5


def test_a_broker_that_was_never_there_fails_the_run(tmp_path):
    """Messages in memory are no results: without a broker to confirm one, the daemon's end says so."""
    sink = {"kind": "mqtt", "host": "127.0.0.1", "port": free_port()}
    daemon = _daemon(tmp_path, sink, frames=5)
    with pytest.raises(SpilloverError, match="not one result"):
        daemon.run()
    assert daemon.metrics.summary()["results_dropped[0:mqtt,write failed]"] == 5


def test_a_disk_that_is_mounted_late_is_waited_for(tmp_path):
    """Frames are answered meanwhile, nothing makes the folder; once it comes all that waited is written."""
    disk = tmp_path / "disk"
    sinks = [{"kind": kind, "path": str(disk / kind)} for kind in ("jsonl", "sqlite")]
    daemon = _daemon(tmp_path, *sinks, frames=0)
    with _running(daemon):
        _until(lambda: _count(daemon) >= FRAMES)
        states = daemon._device.reporting.outlets.states()
        assert [(state.failing, str(disk) in state.last_error) for state in states] == [(True, True)] * 2
        assert not disk.exists()
        disk.mkdir()
        _until(lambda: not any(state.failing for state in daemon._device.reporting.outlets.states()))
    expected = {record.frame_id for record in read_records(disk / "jsonl")}
    with closing(sqlite3.connect(disk / "sqlite")) as reader:
        assert {row[0] for row in reader.execute("select frame_id from results")} == expected
    assert _count(daemon) == len(expected) >= FRAMES
