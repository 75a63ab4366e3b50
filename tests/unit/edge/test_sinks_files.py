"""Sinks on disk: files that rotate, a database that answers questions, lines that a crash left torn."""

import itertools
import json
import resource
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from spillover.common.errors import ConfigError
from spillover.common.types import AnsweredBy
from spillover.edge.results.delivery import Event, EventKind
from spillover.edge.sinks.jsonl import JsonLinesSink
from spillover.edge.sinks.record import is_event, record_encoder
from spillover.edge.sinks.sqlite import SqliteSink
from tests.support.edge_values import result

ENCODE = record_encoder(())


def test_rotation_keeps_so_many_files_and_no_line_is_lost_or_split(tmp_path):
    """The newest file is `path`, then `path.1`; each holds whole lines and stays below the size."""
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(str(path), ENCODE, rotate_bytes=2000, rotate_keep=3)
    for number in range(40):
        sink.write(result(f"cam-b-{number}"))
    sink.flush()
    sink.close()
    files = [path, *(tmp_path / f"r.jsonl.{n}" for n in (1, 2, 3))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(0 < file.stat().st_size <= 2000 for file in files)
    lines = list(itertools.chain.from_iterable(f.read_bytes().splitlines() for f in reversed(files)))
    numbers = [int(line.split(b'"', 4)[3].rsplit(b"-", 1)[1]) for line in lines]
    assert numbers == list(range(40 - len(numbers), 40))


def test_a_line_that_a_crash_left_half_written_spoils_no_other(tmp_path):
    """Appending after a torn line begins on a line of its own."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"frame_id": "cam-')
    sink = JsonLinesSink(str(path), ENCODE)
    sink.tell(Event(EventKind.STARTED, 1.0))
    sink.flush()
    sink.close()
    torn, event = path.read_bytes().splitlines()
    assert torn == b'{"frame_id": "cam-'
    assert is_event(event)


@contextmanager
def _no_room_beyond(size):
    """As on a disk that is full: no file of this process may grow beyond `size` bytes (RLIMIT_FSIZE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_a_full_disk_took_half_of_is_completed(tmp_path):
    """The error is told, nothing is lost or torn: with room again every line is there, once."""
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(str(path), ENCODE)
    sink.write(result("a"))
    sink.flush()
    half = path.stat().st_size * 3 // 2
    with _no_room_beyond(half):
        sink.write(result("b"))
        for _ in range(2):
            with pytest.raises(OSError, match="large"):
                sink.flush()
        sink.write(result("c"))
    assert path.stat().st_size == half
    sink.flush()
    sink.close()
    assert [json.loads(line)["frame_id"] for line in path.read_bytes().splitlines()] == ["a", "b", "c"]


def test_a_device_is_written_to_as_it_is():
    """What is no regular file has no last line to end, and no size to rotate at."""
    sink = JsonLinesSink("/dev/null", ENCODE)
    sink.write(result())
    sink.flush()
    sink.close()


def test_events_can_be_left_out(tmp_path):
    """With `events` off the file holds results alone."""
    sink = JsonLinesSink(str(tmp_path / "r.jsonl"), ENCODE, events=False)
    sink.tell(Event(EventKind.STARTED, 1.0))
    sink.flush()
    sink.close()
    assert not (tmp_path / "r.jsonl").read_bytes()


@pytest.fixture
def database(tmp_path):
    """A sink, and a second connection that asks while it writes."""
    sink = SqliteSink(str(tmp_path / "r.db"), ENCODE, keep_days=2.0)
    reader = sqlite3.connect(tmp_path / "r.db")
    yield sink, lambda question: reader.execute(question).fetchall()
    reader.close()
    sink.flush()
    sink.close()


def test_the_last_day_can_be_asked_while_the_daemon_writes(database):
    """The view has one row a frame, its last revision, of the last 24 hours."""
    sink, ask = database
    now = time.time()
    old = replace(result("old"), captured_unix_s=now - 90_000)
    fresh = replace(result("fresh"), captured_unix_s=now)
    late = replace(fresh, revision=1, answered_by=AnsweredBy.CLOUD)
    for one in (old, fresh, late, late):
        sink.write(one)
    sink.tell(Event(EventKind.CAMERA_STATE, now, {"state": "lost"}))
    sink.flush()
    assert ask("select frame_id, revision, answered_by from last_day") == [("fresh", 1, "cloud")]
    assert ask("select count(*) from results") == [(3,)]
    assert ask("select kind, json_extract(record, '$.state') from events") == [("camera_state", "lost")]
    assert ask("select json_extract(record, '$.model.name') from latest limit 1") == [("small",)]


def test_what_is_too_old_goes(database):
    """After a thousand results, those beyond `keep_days` are gone."""
    sink, ask = database
    for number in range(1000):
        age_s = 300_000 if number < 10 else 0
        sink.write(replace(result(f"f{number}"), captured_unix_s=1.7e9 - age_s))
    sink.flush()
    assert ask("select count(*) from results") == [(990,)]


def test_rows_wait_for_a_database_that_is_locked(tmp_path, database):
    """Whoever holds the lock, nothing is lost: the rows are in when it lets go, each once."""
    sink, ask = database
    sink._db.execute("pragma busy_timeout = 0")
    other = sqlite3.connect(tmp_path / "r.db", isolation_level=None)
    other.execute("begin immediate")
    for frame_id in ("a", "b"):
        sink.write(result(frame_id))
        with pytest.raises(OSError, match="locked"):
            sink.flush()
    other.execute("rollback")
    other.close()
    sink.flush()
    assert ask("select frame_id from results order by frame_id") == [("a",), ("b",)]


def test_rows_wait_for_a_disk_that_is_full(tmp_path, database):
    """What does not fit is held, all of it or none; with room again it is in, and the file is sound."""
    sink, ask = database
    sink.write(result("before"))
    sink.flush()
    with _no_room_beyond((tmp_path / "r.db-wal").stat().st_size + 5000):
        for number in range(50):
            sink.write(result(f"f{number}"))
        with pytest.raises(OSError, match="SQLite"):
            sink.flush()
    assert ask("select count(*) from results") == [(1,)]
    sink.flush()
    assert ask("select count(*) from results") == [(51,)]
    assert ask("pragma integrity_check") == [("ok",)]


def test_a_file_that_is_no_database_is_refused_at_the_start(tmp_path):
    """The error names the file."""
    (tmp_path / "r.db").write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match=r"r\.db"):
        SqliteSink(str(tmp_path / "r.db"), ENCODE, keep_days=1.0)


def test_a_renamed_file_is_left_with_whole_lines(tmp_path):
    """After `reopen` lines go to a file of the old name; a database likewise, with its tables."""
    path, database = tmp_path / "r.jsonl", tmp_path / "r.db"
    for sink, where in (
        (JsonLinesSink(str(path), ENCODE), path),
        (SqliteSink(str(database), ENCODE, 1), database),
    ):
        sink.write(result("a"))
        sink.flush()
        where.rename(tmp_path / f"{where.name}.1")
        sink.write(result("b"))
        sink.reopen()
        sink.flush()
        sink.close()
    assert [json.loads(line)["frame_id"] for line in path.read_bytes().splitlines()] == ["b"]
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("select frame_id from results").fetchall() == [("b",)]


def test_a_line_that_a_full_disk_took_half_of_is_whole_in_the_new_file(tmp_path):
    """The old file ends in a torn line, as after a crash; the new one begins with that line."""
    path, old = tmp_path / "r.jsonl", tmp_path / "r.jsonl.1"
    sink = JsonLinesSink(str(path), ENCODE)
    for name in ("a", "b"):
        sink.write(result(name))
    with _no_room_beyond(len(ENCODE(result("a"))) + 10), pytest.raises(OSError, match="too large"):
        sink.flush()
    path.rename(old)
    sink.reopen()
    sink.flush()
    sink.close()
    first, torn = old.read_bytes().splitlines()
    (line,) = path.read_bytes().splitlines()
    assert json.loads(first)["frame_id"] == "a"
    assert json.loads(line)["frame_id"] == "b"
    assert line.startswith(torn)


def test_a_file_that_was_not_renamed_is_not_spoiled_by_a_reload(tmp_path):
    """The torn line is ended before the whole one is written again."""
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(str(path), ENCODE)
    sink.write(result("a"))
    with _no_room_beyond(10), pytest.raises(OSError, match="too large"):
        sink.flush()
    sink.reopen()
    sink.flush()
    sink.close()
    torn, line = path.read_bytes().splitlines()
    assert len(torn) == 10
    assert json.loads(line)["frame_id"] == "a"


def test_a_folder_that_is_gone_leaves_the_file_that_is_open(tmp_path):
    """A reload while the disk is not there costs nothing: what was open is written on."""
    folder = tmp_path / "disk"
    folder.mkdir()
    sink = JsonLinesSink(str(folder / "r.jsonl"), ENCODE)
    folder.rename(tmp_path / "away")
    with pytest.raises(OSError, match="No such file"):
        sink.reopen()
    sink.write(result("a"))
    sink.flush()
    sink.close()
    assert b'"a"' in (tmp_path / "away" / "r.jsonl").read_bytes()
