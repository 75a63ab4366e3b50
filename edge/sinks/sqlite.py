"""The last days in an SQLite file, for questions: `sqlite3 results.db "select ... from results"`.

    results(frame_id, revision, captured_unix_s, camera_id, answered_by, model, total_s, payload_bytes,
            record)
    events(at_unix_s, kind, record)

`record` is the JSON of `edge.sinks.record`. The view `latest` has one row a frame, its last revision; the
view `last_day` the part of it that was captured within 24 hours. A late answer that comes twice is kept once.
When the clock was set, the times of this run's results are corrected.
"""

import sqlite3
from pathlib import Path

from spillover.common.errors import ConfigError
from spillover.common.types import Result
from spillover.edge.results.delivery import Event, EventKind
from spillover.edge.sinks.record import Encode, encode_event

_SCHEMA = """
pragma journal_mode = wal;
pragma synchronous = normal;
create table if not exists results(
    frame_id text, revision integer, captured_unix_s real, camera_id text, answered_by text, model text,
    total_s real, payload_bytes integer, record text, primary key (frame_id, revision)
) without rowid;
create index if not exists results_by_time on results(captured_unix_s);
create table if not exists events(at_unix_s real, kind text, record text);
create index if not exists events_by_time on events(at_unix_s);
create view if not exists latest as
    select * from results as r
    where revision = (select max(revision) from results where frame_id = r.frame_id);
create view if not exists last_day as
    select * from latest where captured_unix_s > unixepoch() - 86400;
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
Row = tuple[str | int | float, ...]
_LOCK_LIMIT_S = 2.0
"""Maximum seconds that one flush waits for another process's lock."""
_PRUNE_EVERY = 1000
"""Results between two deletions of old rows."""


class SqliteSink:
    """Holds rows until `flush` writes them all in one transaction, or, if that fails, none of them.

    Raises:
        ConfigError: the file cannot be opened as a database.
    """

    def __init__(self, path: str, encode: Encode, keep_days: float) -> None:
        self._encode = encode
        self._keep_s = keep_days * _DAY_S
        self._held: list[tuple[str, Row]] = []
        self._until_prune = _PRUNE_EVERY
        self._path = Path(path).expanduser()
        try:
            self._db = self._connect()
        except sqlite3.Error as error:
            raise ConfigError(f"sinks: {path!r} cannot be opened as a database: {error}") from error

    def start(self) -> None:
        """A database needs no background thread."""

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

        Raises OSError: the disk is full, or another process has locked the database.
        """
        try:
            with self._db:
                for statement, row in self._held:
                    self._db.execute(statement, row)
        except sqlite3.Error as error:
            raise OSError(f"SQLite: {error}") from error
        self._held.clear()

    def reopen(self) -> None:
        """Connect to the database that has this name now; held rows go there. Raises OSError."""
        try:
            fresh = self._connect()
        except sqlite3.Error as error:
            raise OSError(f"SQLite: {error}") from error
        self._db.close()
        self._db = fresh

    def _connect(self) -> sqlite3.Connection:
        # Made by the thread that builds the daemon, then used by the outlet's alone.
        database = sqlite3.connect(self._path, check_same_thread=False, timeout=_LOCK_LIMIT_S)
        database.executescript(_SCHEMA)
        return database

    def close(self) -> None:
        """Close the database; held rows are lost."""
        self._db.close()

    def _prune(self, now_unix_s: float) -> None:
        """Delete old rows by the frames' clock: if it jumps ahead, rows go early and the file stays small."""
        oldest = (now_unix_s - self._keep_s,)
        self._held.append(("delete from results where captured_unix_s < ?", oldest))
        self._held.append(("delete from events where at_unix_s < ?", oldest))
        self._until_prune = _PRUNE_EVERY
