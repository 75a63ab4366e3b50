"""The last days in an SQLite file, for questions: `sqlite3 results.db "select ... from results"`.

    results(frame_id, revision, captured_unix_s, camera_id, answered_by, model, total_s, payload_bytes,
            record)
    events(at_unix_s, kind, record)

`record` is the JSON of `edge.sinks.record`. The view `latest` has one row a frame, its last revision; the
view `last_day` the part of it that was captured within 24 hours. `object_events` has each event of a tracked
object once, in its last phase. A late answer that comes twice is kept once.
When the clock was set, the times of this run's results are corrected.
"""

import sqlite3
from contextlib import suppress
from pathlib import Path

from spillover.common.errors import ConfigError
from spillover.common.files import FileLock, lock_file, set_aside
from spillover.common.log import get_logger
from spillover.common.mounts import demand_folder, may_pass
from spillover.common.types import Result
from spillover.edge.results.delivery import Event, EventKind
from spillover.edge.sinks.record import Encode, encode_event

_log = get_logger("sqlite")

_SCHEMA = """
pragma auto_vacuum = incremental;
pragma journal_mode = wal;
pragma synchronous = normal;
create table if not exists results(
    frame_id text, revision integer, captured_unix_s real, camera_id text, answered_by text, model text,
    total_s real, payload_bytes integer, record text, primary key (frame_id, revision)
);
create index if not exists results_by_time on results(captured_unix_s);
create table if not exists events(at_unix_s real, kind text, record text);
create index if not exists events_by_time on events(at_unix_s);
create view if not exists latest as
    select * from results as r
    where revision = (select max(revision) from results where frame_id = r.frame_id);
create view if not exists last_day as
    select * from latest where captured_unix_s > unixepoch() - 86400;
create view if not exists object_events as
    select at_unix_s, kind, record ->> 'event_id' as event_id, record ->> 'phase' as phase,
        record ->> 'camera_id' as camera_id, coalesce(record ->> 'zone', record ->> 'line') as place,
        record ->> 'direction' as direction, record ->> 'track_id' as track_id,
        record ->> 'label' as label, record ->> 'best_frame_id' as best_frame_id, record
    from events
    where rowid in (select max(rowid) from events where record ->> 'event_id' is not null
        group by record ->> 'event_id');
"""
_OLDEST = """
select count(*), total(is_event) from (
    select 0 as is_event, at from (select captured_unix_s as at from results order by 1 limit :many)
    union all
    select 1 as is_event, at from (select at_unix_s as at from events order by 1 limit :many)
    order by at limit :many
)
"""
"""Of the oldest rows, how many there are, and how many of them are events."""
_DELETE_RESULTS = """
delete from results where (frame_id, revision) in
    (select frame_id, revision from results order by captured_unix_s limit ?)
"""
_DELETE_EVENTS = """
delete from events where rowid in (select rowid from events order by at_unix_s limit ?)
"""
_CORRECT = """
update results set captured_unix_s = captured_unix_s + ?,
    record = json_set(record, '$.captured_unix_s', round(captured_unix_s + ?, 6))
where captured_unix_s between ? - 60 and ? + 60 and frame_id glob '*-' || ? || '-*'
    and json_extract(record, '$.sequence') <= ?
"""
"""Corrects the times of a run's frames, after its clock was set. The range lets the index find them; a minute
more, because a frame is older than its number by the time that it took to read."""
_DAY_S = 86400.0
Row = tuple[object, ...]
_LOCK_LIMIT_S = 2.0
"""Maximum seconds that one flush waits for another process's lock."""
_PRUNE_EVERY = 1000
"""Results between two deletions of rows that are too old."""
_WAL_SHARE = 8
"""The write-ahead log may take an eighth of the room, and is taken in long before."""
_WAL_PAGES = 1000
"""After so many pages the log is taken in, SQLite's own default."""
_SHRINK_PAGES = 256
"""So many free pages are given back to the file system at a time."""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SqliteSink:
    """Holds rows until `flush` writes them all in one transaction, or, if that fails, none of them.

    The file and its write-ahead log stay within `max_bytes`, but for what one flush adds: the oldest rows go.
    A file that is damaged, or no database, is set aside and another begun. Where its disk is away, at the
    start or later, every flush tries to open it again.

    Raises:
        InUseError: another daemon writes to the file.
        ConfigError: the path can never be a file.
    """

    refused = ()
    """What a disk does not take now it may take later."""

    def __init__(self, path: str, encode: Encode, keep_days: float, max_bytes: int) -> None:
        self._path = Path(path).expanduser()
        self._encode = encode
        self._keep_s = keep_days * _DAY_S
        self._wal_bytes = max_bytes // _WAL_SHARE
        self._file_bytes = max_bytes - self._wal_bytes
        self._held: list[tuple[str, Row]] = []
        self._until_prune = _PRUNE_EVERY
        self._lock: FileLock | None = None
        self._db: sqlite3.Connection | None = None
        try:
            self._open()
        except OSError as error:
            if not may_pass(error) or self._path.is_dir():
                raise ConfigError(f"sinks: {path!r} cannot be opened as a database: {error}") from error

    def start(self) -> None:
        """A database needs no background thread."""

    def notice(self, event: Event) -> None:
        """Events are taken in their turn."""

    def wait_for_room(self, timeout_s: float) -> bool:
        """There always is."""
        del timeout_s
        return True

    def write(self, result: Result) -> None:
        """Hold the row; it replaces the same revision of the same frame."""
        row = (
            result.frame_id,
            result.revision,
            result.captured_unix_s,
            result.camera_id,
            result.answered_by.value,
            str(result.model),
            result.timings.total_s,
            result.payload_bytes,
            self._encode(result).decode(),
        )
        self._held.append(("insert or replace into results values (?, ?, ?, ?, ?, ?, ?, ?, ?)", row))
        self._until_prune -= 1
        if not self._until_prune:
            self._prune(result.captured_unix_s)

    def tell(self, event: Event) -> None:
        """Hold the event's row until `flush`."""
        row = (event.at_unix_s, event.kind.value, encode_event(event).decode())
        self._held.append(("insert into events values (?, ?, ?)", row))
        if event.kind is EventKind.CLOCK_SET:
            names = ("shift_s", "shift_s", "from_unix_s", "to_unix_s", "boot_id", "to_sequence")
            self._held.append((_CORRECT, tuple(event.fields[name] for name in names)))

    def flush(self) -> None:
        """Write the held rows.

        Raises OSError: the disk is full or away, or another process has locked the database or does not let
        its write-ahead log be taken in.
        """
        if self._db is None:
            self._open()
        db = self._db
        assert db is not None  # noqa: S101 - `_open` has made it
        try:
            self._bound_wal(db)
            with db:
                self._make_room(db)
                for statement, row in self._held:
                    db.execute(statement, row)
            self._held.clear()
            self._shrink(db)
        except sqlite3.Error as error:
            self._fails(error)
            raise OSError(f"SQLite: {error}") from error

    def reopen(self) -> None:
        """Go on in the file that is at the path now. Raises OSError; every flush tries again then."""
        with suppress(OSError):
            self.flush()
        self._let_go()
        self._open()

    def close(self) -> None:
        """Close the database; held rows are lost."""
        self._let_go()
        if self._lock is not None:
            self._lock.close()

    def _open(self) -> None:
        """Raises OSError, InUseError."""
        demand_folder(self._path)
        if self._lock is None:
            self._lock = lock_file(self._path, "sinks")
        else:
            self._lock.renew()
        try:
            # Made by the thread that builds the daemon, then used by the outlet's alone.
            db = sqlite3.connect(self._path, check_same_thread=False, timeout=_LOCK_LIMIT_S)
            try:
                db.executescript(_SCHEMA + f"pragma journal_size_limit = {self._wal_bytes};")
                self._page_bytes = int(_ask(db, "page_size"))
                pages = min(_WAL_PAGES, self._wal_bytes // self._page_bytes // 4)
                db.execute(f"pragma wal_autocheckpoint = {max(1, pages)}")
            except sqlite3.Error:
                db.close()
                raise
        except sqlite3.Error as error:
            self._fails(error)
            raise OSError(f"SQLite: {error}") from error
        self._db = db

    def _fails(self, error: sqlite3.Error) -> None:
        """Set a damaged file aside; close the others, which may be of a disk that is gone."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL}:
            return
        self._let_go()
        if code in _DAMAGED and self._path.is_file():
            aside = set_aside(self._path, "-wal", "-shm")
            _log.error("a damaged database is set aside", path=str(self._path), now=str(aside))

    def _let_go(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

    def _prune(self, now_unix_s: float) -> None:
        """Delete old rows by the frames' clock: if it jumps ahead, rows go early and the file stays small."""
        oldest = (now_unix_s - self._keep_s,)
        self._held.append(("delete from results where captured_unix_s < ?", oldest))
        self._held.append(("delete from events where at_unix_s < ?", oldest))
        self._until_prune = _PRUNE_EVERY

    def _make_room(self, db: sqlite3.Connection) -> None:
        """While the rows would take more than their room, two of the oldest go for one that comes.

        So it is never much at once, which would swell the write-ahead log.
        """
        used = (_ask(db, "page_count") - _ask(db, "freelist_count")) * self._page_bytes
        comes = sum(len(str(row[-1])) for _, row in self._held)
        if used + comes > self._file_bytes:
            rows, events = db.execute(_OLDEST, {"many": 2 * len(self._held) + 1}).fetchone()
            db.execute(_DELETE_RESULTS, (rows - int(events),))
            db.execute(_DELETE_EVENTS, (int(events),))

    def _shrink(self, db: sqlite3.Connection) -> None:
        """Give free pages back while the file is larger than its room, as after `max_mb` was made smaller."""
        if _ask(db, "page_count") * self._page_bytes > self._file_bytes and _ask(db, "freelist_count"):
            # `execute` would stop after the first of them.
            db.executescript(f"pragma incremental_vacuum({_SHRINK_PAGES});")

    def _bound_wal(self, db: sqlite3.Connection) -> None:
        """A reader that never ends keeps the log from being taken in; then nothing more is added to it."""
        wal = self._path.with_name(self._path.name + "-wal")
        if _size(wal) > self._wal_bytes:
            _ask(db, "wal_checkpoint(truncate)")
        if (size := _size(wal)) > self._wal_bytes:
            raise OSError(f"SQLite: another process reads without end, and {wal.name} has {size} bytes")


def _ask(db: sqlite3.Connection, pragma: str) -> int:
    """The first number that a pragma answers; 0 if it has no answer."""
    row = db.execute(f"pragma {pragma}").fetchone()
    return int(row[0]) if row else 0


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
