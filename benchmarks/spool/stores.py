"""Ways to keep frames on a disk: SQLite, a log of segments, a file a record, and the arena of the spool.

Each keeps at most `cap_bytes`, evicts the least valuable records, and returns from `commit` when the batch
would survive a power cut. They are as simple as a fair comparison allows.
"""

import heapq
import os
import sqlite3
from pathlib import Path
from typing import Protocol

import google_crc32c

from spillover.edge.spool.arena import Arena

Batch = list[tuple[float, bytes]]
_HEADER_BYTES = 12


class Store(Protocol):
    """A way to keep (value, body) records."""

    def commit(self, batch: Batch) -> None:
        """Keep these records; evicts the least valuable ones."""
        ...


class SqliteStore:
    """One table, WAL, `synchronous=FULL` (with NORMAL a commit in WAL mode is not synced at all)."""

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self._room = cap_bytes * 9 // 10  # the rest is the write-ahead log, the index and half-filled pages
        self._db = sqlite3.connect(folder / "spool.db", isolation_level=None)
        for pragma in ("journal_mode=wal", "synchronous=full", "wal_autocheckpoint=256"):
            self._db.execute(f"pragma {pragma}")
        self._db.execute(
            "create table if not exists r(id integer primary key, value real, size int, body blob)"
        )
        self._db.execute("create index if not exists by_value on r(value)")
        self._live = 0

    def commit(self, batch: Batch) -> None:
        """One transaction."""
        need = sum(len(body) for _, body in batch)
        self._db.execute("begin")
        while self._live + need > self._room:
            least = self._db.execute("select id, size from r order by value limit 1").fetchone()
            self._db.execute("delete from r where id=?", least[:1])
            self._live -= least[1]
        rows = [(value, len(body), body) for value, body in batch]
        self._db.executemany("insert into r(value, size, body) values(?, ?, ?)", rows)
        self._live += need
        self._db.execute("commit")


class FileStore:
    """A file a record, named by its number; the file and its folder are synced."""

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self._folder = folder
        self._folder_file = os.open(folder, os.O_RDONLY)
        self._room = cap_bytes
        self._ranked: list[tuple[float, Path, int]] = []
        self._live = self._count = 0

    def commit(self, batch: Batch) -> None:
        """Write, sync, evict."""
        for value, body in batch:
            while self._live + len(body) > self._room:
                _, path, size = heapq.heappop(self._ranked)
                path.unlink()
                self._live -= size
            path = self._folder / f"{self._count:08d}"
            self._count += 1
            with path.open("wb") as file:
                file.write(google_crc32c.value(body).to_bytes(4) + body)
                file.flush()
                os.fsync(file.fileno())
            heapq.heappush(self._ranked, (value, path, len(body)))
            self._live += len(body)
        os.fsync(self._folder_file)


class LogStore:
    """Segments of 1 MiB, appended to; a segment whose records are mostly dead is copied into the newest.

    A quarter of the room is kept for the dead: with less, copying costs more than everything else.
    """

    segment_bytes = 1 << 20

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self._folder = folder
        self._cap = cap_bytes
        self._ranked: list[tuple[float, int]] = []
        self._records: dict[int, tuple[float, int, int, int]] = {}
        self._sizes: dict[int, int] = {}
        self._files: dict[int, int] = {}
        self._count = self._live = 0
        self._begin_segment()

    def commit(self, batch: Batch) -> None:
        """Append, sync, evict, collect."""
        for value, body in batch:
            while self._live + len(body) > self._cap * 3 // 4:
                self._live -= self._records.pop(heapq.heappop(self._ranked)[1])[3]
            while sum(self._sizes.values()) + len(body) > self._cap - self.segment_bytes:
                self._collect()
            self._count += 1
            self._append(self._count, value, body)
            heapq.heappush(self._ranked, (value, self._count))
            self._live += len(body)
        os.fdatasync(self._files[self._segment])

    def _append(self, record_id: int, value: float, body: bytes) -> None:
        if self._sizes[self._segment] + len(body) > self.segment_bytes:
            os.fdatasync(self._files[self._segment])
            self._begin_segment()
        at = self._sizes[self._segment]
        header = google_crc32c.value(body).to_bytes(4) + len(body).to_bytes(8)
        os.pwrite(self._files[self._segment], header + body, at)
        self._sizes[self._segment] += len(header) + len(body)
        self._records[record_id] = (value, self._segment, at, len(body))

    def _begin_segment(self) -> None:
        self._segment = max(self._files, default=0) + 1
        self._files[self._segment] = os.open(self._folder / f"{self._segment:08d}", os.O_RDWR | os.O_CREAT)
        self._sizes[self._segment] = 0

    def _collect(self) -> None:
        live = dict.fromkeys((s for s in self._sizes if s != self._segment), 0)
        for _, segment, _, size in self._records.values():
            if segment in live:
                live[segment] += size
        victim = min(live, key=live.__getitem__)
        for record_id, (value, segment, at, size) in list(self._records.items()):
            if segment == victim:
                self._append(record_id, value, os.pread(self._files[victim], size, at + _HEADER_BYTES))
        os.fdatasync(self._files[self._segment])
        os.close(self._files.pop(victim))
        (self._folder / f"{victim:08d}").unlink()
        del self._sizes[victim]


class ArenaStore:
    """The arena that the spool uses."""

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self._arena = Arena(folder / "spool.dat", cap_bytes)

    def commit(self, batch: Batch) -> None:
        """Put, sync."""
        for value, body in batch:
            self._arena.put(value, 0.0, b"", body)
        self._arena.sync()
