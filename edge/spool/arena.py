"""Records in one file of fixed size, written in place; when it is full, the least valuable are evicted.

Why not SQLite in WAL mode, a log of segments, or one file per record? `python -m benchmarks spool` measures
them side by side. On a full ext4 of its own, with records of 15-45 KB, one per commit, and evictions anywhere
in the file, the device receives 4.1 bytes per byte stored from SQLite, 3.8 from a log (with a quarter of its
room reserved for dead records), 2.4 from one file per record and 1.05 from this arena; the median commit
takes 0.44, 0.55, 0.73 and 0.29 ms. Allocated blocks need no journal, and nothing is ever copied. Bytes
written are what wears out an SD card. SQLite's database pages have no checksum, so records would need their
own there too. The room is allocated once, at the start: the file never exceeds its size, and a disk that
others fill later does no harm.

Safety: a record counts as accepted only after `sync`; the header of an evicted record is wiped in the same
sync that writes its successor; a torn record fails its checksum. A power cut may undo a removal, so a record
can come back: delivery is at least once. Whatever has happened to the file, `scan` finds the records that are
whole; what lies beside them is wiped.

Not thread-safe: `edge.spool.spool` holds the lock.
"""

import bisect
import errno
import itertools
import math
import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from spillover.common.files import sync_folder
from spillover.edge.spool.extents import Extents
from spillover.edge.spool.record import (
    BLOCK_BYTES,
    HEADER_BYTES,
    REMOVED,
    Header,
    blocks_for,
    body_is_intact,
    decode_header,
    encode,
)
from spillover.edge.spool.scan import Found, Stored, UnusableError, read, scan
from spillover.edge.spool.values import Fate


@dataclass(slots=True)
class Contents:
    """The records of an arena: by id (insertion order is age), and by rank; pinned ones have no rank."""

    by_id: dict[int, Stored] = field(default_factory=dict)
    ranked: list[tuple[float, int]] = field(default_factory=list)
    blocks: int = 0
    """Blocks that the records take."""

    def add(self, stored: Stored) -> None:
        """Add a record to both indices."""
        self.by_id[stored.header.record_id] = stored
        bisect.insort(self.ranked, stored.rank)
        self.blocks += stored.header.blocks

    def remove(self, stored: Stored) -> None:
        """Remove a record, pinned or not."""
        del self.by_id[stored.header.record_id]
        self.unrank(stored)
        self.blocks -= stored.header.blocks

    def unrank(self, stored: Stored) -> None:
        """Pin a record, so that it is neither evicted nor returned by `best`."""
        if not self.is_pinned(stored):
            del self.ranked[bisect.bisect_left(self.ranked, stored.rank)]

    def is_pinned(self, stored: Stored) -> bool:
        """Whether a record is being delivered."""
        index = bisect.bisect_left(self.ranked, stored.rank)
        return index == len(self.ranked) or self.ranked[index] != stored.rank


OnLost = Callable[[Fate, Header], None]


def _ignore(fate: Fate, header: Header) -> None:
    del fate, header


class Arena:
    """The open file. `on_lost` is called for each record that is evicted or found damaged.

    Raises:
        OSError: the file cannot be created, does not fit on the disk, or the disk is read-only.
        UnusableError: the file was never a spool, or is beyond repair; it is as it was.
    """

    def __init__(self, path: Path, max_bytes: int, on_lost: OnLost = _ignore) -> None:
        self._on_lost = on_lost
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _demand_regular(self._file, path)
            self._blocks = max_bytes // BLOCK_BYTES
            self._extents = Extents(self._blocks)
            self._contents = Contents()
            self.corrupt = 0
            """Damaged records found so far."""
            self.duplicate = 0
            """Copies of other records found so far."""
            self.evicted = 0
            """Records evicted so far."""
            self._next_id = 1
            self._open()
            sync_folder(path.parent)
        except BaseException:
            os.close(self._file)
            raise

    def __len__(self) -> int:
        return len(self._contents.by_id)

    @property
    def used_bytes(self) -> int:
        """Bytes of the blocks that hold records."""
        return self._contents.blocks * BLOCK_BYTES

    def holds(self, record_id: int) -> bool:
        """Whether the record is in the arena."""
        return record_id in self._contents.by_id

    def older_than(self, clock_s: float) -> list[Header]:
        """Unpinned records from before `clock_s`, oldest first."""
        old = itertools.takewhile(
            lambda stored: stored.header.clock_s < clock_s, self._contents.by_id.values()
        )
        return [stored.header for stored in old if not self._contents.is_pinned(stored)]

    def places(self) -> list[tuple[Header, int]]:
        """Every record and its offset in the file, in bytes."""
        return [(stored.header, stored.block * BLOCK_BYTES) for stored in self._contents.by_id.values()]

    @property
    def oldest(self) -> Header | None:
        """The oldest record, pinned or not; None when there is none."""
        stored = next(iter(self._contents.by_id.values()), None)
        return stored.header if stored else None

    @property
    def latest_clock_s(self) -> float:
        """The latest clock of any record; 0 when there is none."""
        return max((stored.header.clock_s for stored in self._contents.by_id.values()), default=0.0)

    def put(self, value: float, clock_s: float, key: bytes, body: bytes) -> int | None:
        """Write a record, evicting records of less value, or older ones of the same. Not safe before `sync`.

        Returns:
            The record's id; None when there is no room even so.

        Raises:
            OSError: the disk failed; the record is not stored.
        """
        value = value if math.isfinite(value) else 0.0  # NaN has no place in an order
        room = self._find_room(value, blocks_for(len(body)))
        if room is None:
            return None
        start, evicted = room
        record_id, self._next_id = self._next_id, self._next_id + 1
        # Wipe before overwriting: a header without its body would hide the records behind it from a scan.
        for stored in evicted:
            self._drop(stored)
            self._count_evicted(stored.header)
        data = encode(record_id, value, clock_s, key, body)
        self._extents.claim(start, blocks_for(len(body)))
        try:
            _write(self._file, data, start * BLOCK_BYTES)
        except OSError:
            self._extents.give(start, blocks_for(len(body)))
            raise
        header = decode_header(data[:HEADER_BYTES])
        assert header is not None  # noqa: S101 - just encoded
        self._contents.add(Stored(header, start))
        return record_id

    def sync(self) -> None:
        """Return once every record written so far would survive a power cut. Raises OSError."""
        os.fdatasync(self._file)

    def best(self, passing_over: Collection[int] = ()) -> Header | None:
        """The most valuable unpinned record; one in `passing_over` only when there is no other."""
        ranked = self._contents.ranked
        if not ranked:
            return None
        others = (record_id for _, record_id in reversed(ranked) if record_id not in passing_over)
        return self._contents.by_id[next(others, ranked[-1][1])].header

    def pin(self, record_id: int) -> None:
        """Exclude a record from eviction and `best` until `unpin` or `remove`."""
        self._contents.unrank(self._contents.by_id[record_id])

    def unpin(self, record_id: int) -> None:
        """Make the record eligible for eviction and `best` again."""
        bisect.insort(self._contents.ranked, self._contents.by_id[record_id].rank)

    def read(self, record_id: int) -> bytes | None:
        """Read a record's body; a damaged record is counted and removed, and gives None."""
        stored = self._contents.by_id[record_id]
        body = self._body(stored)
        if body_is_intact(stored.header, body):
            return body
        self._drop(stored)
        self._count_corrupt(stored.header)
        return None

    def remove(self, record_id: int) -> Header:
        """Remove a record. Not synced: a power cut may bring it back."""
        stored = self._contents.by_id[record_id]
        self._drop(stored)
        return stored.header

    def close(self) -> None:
        """Sync the file to disk and close it."""
        try:
            os.fdatasync(self._file)
        finally:
            os.close(self._file)

    def _find_room(self, value: float, blocks: int) -> tuple[int, list[Stored]] | None:
        """The first block for a record and what to evict for it; None when evictions do not make room."""
        if blocks > self._blocks:
            return None
        extents = self._extents.copy()
        evicted: list[Stored] = []
        while (start := extents.take(blocks)) is None:
            if len(evicted) == len(self._contents.ranked):
                return None
            least, record_id = self._contents.ranked[len(evicted)]
            if least > value:
                return None
            stored = self._contents.by_id[record_id]
            extents.give(stored.block, stored.header.blocks)
            evicted.append(stored)
        return start, evicted

    def _drop(self, stored: Stored) -> None:
        self._contents.remove(stored)
        self._extents.give(stored.block, stored.header.blocks)
        self._wipe(stored.block)

    def _wipe(self, block: int) -> None:
        os.pwrite(self._file, REMOVED, block * BLOCK_BYTES)

    def _body(self, stored: Stored) -> bytes:
        """The record's body; empty when the disk cannot read it."""
        return read(self._file, stored.header.body_bytes, stored.block * BLOCK_BYTES + HEADER_BYTES) or b""

    def _count_evicted(self, header: Header) -> None:
        self.evicted += 1
        self._on_lost(Fate.EVICTED, header)

    def _count_corrupt(self, header: Header) -> None:
        self.corrupt += 1
        self._on_lost(Fate.CORRUPT, header)

    def _open(self) -> None:
        """Find the records and bring the file to its size."""
        size = os.fstat(self._file).st_size
        found = scan(self._file)
        self._next_id = max((one.header.record_id for one in found.records), default=0) + 1
        self._reserve(found)
        beyond = [stored for stored in found.records if not self._take_over(stored)]
        if beyond:
            self._move_in(beyond)
        self._sort_by_age()
        cap = self._blocks * BLOCK_BYTES
        os.ftruncate(self._file, min(size, cap))
        if cap:
            os.posix_fallocate(self._file, 0, cap)
            if not found.has_traces:
                self._wipe(0)  # known as a spool from now on, whatever a power cut leaves of the first record
        os.fsync(self._file)

    def _reserve(self, found: Found) -> None:
        """Count what is no record, wipe it, and keep away from blocks that cannot be read."""
        self.duplicate += found.duplicates
        self.corrupt += found.damaged_headers
        for header in found.torn:
            self._count_corrupt(header)
        for block in found.leftovers:
            self._wipe(block)
        for block in found.unreadable:
            self._extents.claim(block, 1)

    def _take_over(self, stored: Stored) -> bool:
        """Enter a record that was found; whether it lies within the arena."""
        if not self._extents.claim(stored.block, stored.header.blocks):
            return False
        if self.holds(stored.header.record_id):  # of another daemon on the same file
            stored = replace(stored, header=replace(stored.header, record_id=self._next_id))
            self._next_id += 1
        self._contents.add(stored)
        return True

    def _move_in(self, beyond: list[Stored]) -> None:
        """After the arena has shrunk: move records past its end inside, the most valuable first."""
        for stored in sorted(beyond, key=lambda found: found.rank, reverse=True):
            header = stored.header
            body = self._body(stored)
            if not body_is_intact(header, body):
                self._count_corrupt(header)
            elif self.put(header.value, header.clock_s, header.key, body) is None:
                self._count_evicted(header)
        self.sync()

    def _sort_by_age(self) -> None:
        by_age = sorted(self._contents.by_id.values(), key=lambda stored: stored.age_rank)
        self._contents.by_id = {stored.header.record_id: stored for stored in by_age}


def intact_records(path: Path) -> list[tuple[Header, int]]:
    """Every readable record of the file and its offset in bytes; the file stays as it is.

    For tools that read a spool while no daemon runs. Raises OSError, UnusableError.
    """
    with path.open("rb") as file:
        try:
            found = scan(file.fileno())
        except UnusableError as error:
            raise UnusableError(f"{path}: {error}") from error
        return [(one.header, one.block * BLOCK_BYTES) for one in found.records]


def _demand_regular(file: int, path: Path) -> None:
    """Raises OSError for a device, on which records would take the place of a file system."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))


def _write(file: int, data: bytes, offset: int) -> None:
    """Write all of `data`; the kernel may take it in parts."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
