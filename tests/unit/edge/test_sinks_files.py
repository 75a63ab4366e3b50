"""Sinks on disk: files that rotate, a database that answers questions, lines that a crash left torn."""

import errno
import itertools
import json
import os
import resource
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from structlog.testing import capture_logs

from spillover.common import mounts
from spillover.common.errors import ConfigError, InUseError
from spillover.common.types import AnsweredBy
from spillover.edge.results.delivery import Event, EventKind
from spillover.edge.sinks.jsonl import JsonLinesSink
from spillover.edge.sinks.record import is_event, record_encoder
from spillover.edge.sinks.sqlite import SqliteSink
from tests.support.edge_values import result
from tests.support.rights import without_rights

ENCODE = record_encoder(())
MB = 1_000_000
SHM, FLUSH = 32_768, 100_000
"""SQLite's index of the write-ahead log, and what one flush adds to the log: no part of the bound."""


def test_rotation_keeps_so_many_files_and_no_line_is_lost_or_split(tmp_path):
    """The newest file is `path`, then `path.1`; each holds whole lines and stays below the size."""
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(str(path), ENCODE, rotate_bytes=2000, rotate_keep=3)
    for number in range(40):
        sink.write(result(f"cam-b-{number}"))
    sink.flush()
    sink.close()
    files = [path, *(tmp_path / f"r.jsonl.{n}" for n in (1, 2, 3))]
    assert sorted(tmp_path.iterdir()) == sorted([*files, tmp_path / ".r.jsonl.lock"])
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
    sink = SqliteSink(str(tmp_path / "r.db"), ENCODE, keep_days=2.0, max_bytes=100 * MB)
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


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"?" * 5000])
def test_a_damaged_database_is_set_aside_and_another_begun(tmp_path, content):
    """At the start: the file is kept under a name that the log has, and results are written."""
    (tmp_path / "r.db").write_bytes(content)
    with capture_logs() as log:
        sink = SqliteSink(str(tmp_path / "r.db"), ENCODE, keep_days=1.0, max_bytes=MB)
        sink.write(result("a"))
        sink.flush()
    sink.close()
    assert (tmp_path / "r.db.set-aside").read_bytes() == content
    assert [line["now"] for line in log] == [str(tmp_path / "r.db.set-aside")]
    assert _rows(tmp_path / "r.db") == 1


def test_a_database_that_goes_bad_while_it_is_used_is_set_aside(tmp_path):
    """No row that waits is lost: it is in the next file."""
    sink = SqliteSink(str(tmp_path / "r.db"), ENCODE, keep_days=1.0, max_bytes=10 * MB)
    for number in range(300):
        sink.write(result(f"old-{number}"))
    sink.flush()
    sink.close()
    sink = SqliteSink(str(tmp_path / "r.db"), ENCODE, keep_days=1.0, max_bytes=10 * MB)
    with (tmp_path / "r.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"?" * (tmp_path / "r.db").stat().st_size)
    sink.write(result("new"))
    with pytest.raises(OSError, match="malformed"):
        sink.flush()
    sink.flush()
    sink.close()
    assert _rows(tmp_path / "r.db") == 1
    assert (tmp_path / "r.db.set-aside").exists()


def _rows(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("select count(*) from results").fetchone()[0]


def _sqlite(path):
    return SqliteSink(str(path), ENCODE, keep_days=1.0, max_bytes=MB)


def _jsonl(path):
    return JsonLinesSink(str(path), ENCODE, rotate_bytes=MB)


@pytest.fixture(params=[_jsonl, _sqlite])
def file_sink(request):
    """Makes a sink of a file, of either kind."""
    return request.param


def test_a_file_is_written_by_one_daemon_alone(tmp_path, file_sink):
    """The second is refused with the path and the process; when the first has closed, another may."""
    first = file_sink(tmp_path / "r")
    with pytest.raises(InUseError, match=rf"{tmp_path}/r is in use by process {os.getpid()}"):
        file_sink(tmp_path / "r")
    first.close()
    file_sink(tmp_path / "r").close()


def test_the_same_file_by_another_name_is_in_use_too(tmp_path, file_sink):
    """Links lead to one file, and so to one lock."""
    first = file_sink(tmp_path / "r")
    (tmp_path / "link").symlink_to(tmp_path / "r")
    with pytest.raises(InUseError):
        file_sink(tmp_path / "link")
    first.close()


def test_a_folder_that_comes_later_is_waited_for(tmp_path, file_sink):
    """The sink fails by name and makes no folder; once it is there, all that waited is written."""
    sink = file_sink(tmp_path / "disk" / "r")
    for name in ("a", "b"):
        sink.write(result(name))
        with pytest.raises(OSError, match="disk"):
            sink.flush()
    assert not list(tmp_path.iterdir())
    (tmp_path / "disk").mkdir()
    sink.flush()
    sink.close()
    assert all(f'"{name}"'.encode() in (tmp_path / "disk" / "r").read_bytes() for name in ("a", "b"))


def test_a_mount_point_without_its_disk_is_waited_for(tmp_path, file_sink, monkeypatch):
    """The folder is there, on the disk below: nothing is written until the disk is mounted."""
    (tmp_path / "my disk").mkdir()
    fstab, mounted = tmp_path / "fstab", tmp_path / "mountinfo"
    escaped = str(tmp_path / "my disk").replace(" ", "\\040")
    fstab.write_text(f"# disks\nUUID=1 / ext4 defaults 0 1\nUUID=2 {escaped} ext4 nofail 0 2\n")
    mounted.write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(mounts, "FSTAB", fstab)
    monkeypatch.setattr(mounts, "MOUNTED", mounted)
    sink = file_sink(tmp_path / "my disk" / "r")
    sink.write(result("a"))
    with pytest.raises(OSError, match="nothing is mounted there"):
        sink.flush()
    assert not list((tmp_path / "my disk").iterdir())
    with mounted.open("a") as file:
        file.write(f"2 1 8:2 / {escaped} rw - ext4 /dev/sdb1 rw\n")
    sink.flush()
    sink.close()
    assert (tmp_path / "my disk" / "r").stat().st_size


def test_after_a_rename_the_next_line_goes_to_a_new_file(tmp_path):
    """As logrotate does it; what was held before goes to the file that it was meant for."""
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(str(path), ENCODE, rotate_bytes=MB)
    sink.write(result("a"))
    sink.flush()
    sink.write(result("b"))
    path.rename(tmp_path / "r.jsonl-20261126")
    sink.reopen()
    sink.write(result("c"))
    sink.flush()
    sink.close()
    found = [_frames(tmp_path / name) for name in ("r.jsonl-20261126", "r.jsonl")]
    assert found == [["a", "b"], ["c"]]


def test_a_deleted_file_does_not_keep_the_disk_full(tmp_path):
    """The old file has half a line and no room: it is let go, and the line is whole in the new one."""
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(str(path), ENCODE)
    sink.write(result("a"))
    with _no_room_beyond(100):
        with pytest.raises(OSError, match="large"):
            sink.flush()
        path.rename(tmp_path / "old")
        sink.reopen()
    sink.write(result("b"))
    sink.flush()
    sink.close()
    assert (tmp_path / "old").stat().st_size == 100
    assert _frames(path) == ["a", "b"]


def test_a_line_that_is_begun_is_ended_where_no_file_was_moved(tmp_path):
    """The path still leads to the same file: the rest of the line follows its beginning."""
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(str(path), ENCODE)
    sink.write(result("a"))
    with _no_room_beyond(100):
        with pytest.raises(OSError, match="large"):
            sink.flush()
        sink.reopen()
    sink.flush()
    sink.close()
    assert _frames(path) == ["a"]


def test_a_disk_that_comes_back_as_another_is_written_to(tmp_path):
    """The file that was open fails for ever; the lines that it has not taken go whole to the new one."""
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(str(path), ENCODE)
    sink.write(result("a"))
    sink.flush()
    os.close(sink._file.fileno())  # as good as a disk that is gone: every write fails
    sink.write(result("b"))
    path.rename(tmp_path / "gone")
    (tmp_path / ".r.jsonl.lock").unlink()
    with pytest.raises(OSError, match="descriptor"):
        sink.flush()
    sink.flush()
    sink.close()
    assert _frames(path) == ["b"]


def test_a_refused_rotation_costs_nothing(tmp_path, monkeypatch):
    """The new file cannot be made: lines wait, old files are not moved twice, and all is there at last."""
    path = tmp_path / "r.jsonl"
    sink = JsonLinesSink(str(path), ENCODE, rotate_bytes=2000, rotate_keep=3)
    for name in ("a", "b", "c"):
        sink.write(result(name))
    monkeypatch.setattr(Path, "open", _refuse)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            sink.flush()
    monkeypatch.undo()
    sink.flush()
    sink.close()
    files = [tmp_path / "r.jsonl.1", path]
    assert [frame for file in files for frame in _frames(file)] == ["a", "b", "c"]
    assert not (tmp_path / "r.jsonl.2").exists()


def _refuse(*_arguments, **_more):
    raise OSError(errno.ENOSPC, "No space left on device")


def _frames(path):
    return [json.loads(line)["frame_id"] for line in path.read_bytes().splitlines()]


def test_a_file_that_could_not_be_rotated_is_refused_at_the_start():
    """In a folder of another user the sink would stop at its size; without rotation it works as it is."""
    with TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "r.jsonl"
        path.touch(0o666)
        path.chmod(0o666)
        folder.chmod(0o555)
        with without_rights():
            with pytest.raises(ConfigError, match="rotate_mb"):
                JsonLinesSink(str(path), ENCODE, rotate_bytes=MB)
            sink = JsonLinesSink(str(path), ENCODE)
            sink.write(result("a"))
            sink.flush()
            sink.close()
        folder.chmod(0o755)
        assert _frames(path) == ["a"]


def test_a_database_stays_within_its_room(tmp_path):
    """Four times its room is written: file and log stay within it, the newest rows stay, and it is sound."""
    sink = SqliteSink(str(tmp_path / "r.db"), ENCODE, keep_days=99.0, max_bytes=MB)
    largest = 0
    for number in range(4 * MB // 1000):
        sink.write(replace(result(f"cam-b-{number}"), captured_unix_s=1.7e9 + number))
        if number % 2:
            sink.tell(Event(EventKind.DROPPED, 1.7e9 + number, {"reason": "no reason" * 10}))
        if not number % 50:
            sink.flush()
            largest = max(largest, sum(one.stat().st_size for one in tmp_path.glob("r.db*")))
    sink.flush()
    sink.close()
    assert largest <= MB + SHM + FLUSH
    with closing(sqlite3.connect(tmp_path / "r.db")) as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        newest, kept = db.execute("select max(captured_unix_s), count(*) from results").fetchone()
        assert newest == 1.7e9 + number
        assert kept > 400
        events = db.execute("select count(*) from events").fetchone()[0]
        assert kept // 3 < events < kept


def test_a_database_shrinks_when_it_gets_less_room(tmp_path):
    """After `max_mb` was made smaller the file does not stay as large as it was."""
    sink = SqliteSink(str(tmp_path / "r.db"), ENCODE, keep_days=99.0, max_bytes=3 * MB)
    for number in range(1800):
        sink.write(replace(result(f"cam-b-{number}"), captured_unix_s=1.7e9 + number))
    sink.flush()
    sink.close()
    assert (tmp_path / "r.db").stat().st_size > 1.5 * MB
    sink = SqliteSink(str(tmp_path / "r.db"), ENCODE, keep_days=99.0, max_bytes=MB)
    for number in range(1800, 4300):
        sink.write(replace(result(f"cam-b-{number}"), captured_unix_s=1.7e9 + number))
        if not number % 100:
            sink.flush()
    sink.close()
    assert (tmp_path / "r.db").stat().st_size < MB


def test_a_reader_without_end_does_not_let_the_log_grow(tmp_path):
    """It keeps the write-ahead log from being taken in: rows wait, and are written when it has left."""
    sink = SqliteSink(str(tmp_path / "r.db"), ENCODE, keep_days=99.0, max_bytes=MB)
    sink._db.execute("pragma busy_timeout = 0")
    sink.write(result("first"))
    sink.flush()
    reader = sqlite3.connect(tmp_path / "r.db", isolation_level=None)
    reader.execute("begin")
    reader.execute("select * from results").fetchall()
    written, refused = 0, None
    while refused is None:
        sink.write(result(f"f{written}"))
        try:
            sink.flush()
        except OSError as error:
            refused = error
        written += 1
    assert "reads without end" in str(refused)
    assert (tmp_path / "r.db-wal").stat().st_size < MB // 4
    reader.close()
    sink.flush()
    sink.close()
    assert _rows(tmp_path / "r.db") == written + 1
