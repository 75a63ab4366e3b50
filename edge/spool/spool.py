"""The spool: an arena with ages, group commit, counters and a writer thread; `offer` never waits for a disk.

`offer` queues a record for the writer and returns at once. The writer collects what arrives within the commit
interval, writes it, syncs once, and only then counts it as accepted. `take` pins and returns the most
valuable record; `done` or `give_back` ends that. Age counts the seconds that the daemon ran and is stored
with each record: a wall clock that jumps can neither empty the spool nor make records stay for ever.

A disk that fails (full, read-only, broken, gone) closes the spool: the state says why, and the spool tries
again after growing pauses. Unless it is only full, the file is opened anew then, for another
disk may be there. The daemon runs on meanwhile.
"""

import contextlib
import errno
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from spillover.common.errors import InUseError
from spillover.common.files import FileLock, aside_of, lock_file, set_aside
from spillover.common.log import get_logger
from spillover.common.mounts import demand_folder
from spillover.edge.spool.arena import Arena
from spillover.edge.spool.record import Header
from spillover.edge.spool.scan import UnusableError
from spillover.edge.spool.values import (
    NOT_OPEN,
    Fate,
    Offer,
    OnFate,
    OnRefused,
    Refusal,
    SpoolLimits,
    SpoolState,
    Taken,
)

_IDLE_S = 1.0
"""How often the writer looks for expired records, and at a disk that failed, when nothing is offered."""
_EMPTY_S = 60.0
"""How long the writer waits for an offer when nothing is on the disk."""
_RETRY_MIN_S, _RETRY_MAX_S = 1.0, 60.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Spool:
    """The file at `path`; the writer thread opens it, never the caller.

    `clock` gives monotonic seconds. All methods are thread-safe. `offer`, `state` and `close` never wait for
    the disk; the others may wait for as long as one sync takes.
    """

    def __init__(
        self,
        path: Path,
        limits: SpoolLimits,
        clock: Callable[[], float],
        on_fate: OnFate,
        on_refused: OnRefused,
    ) -> None:
        self._path = path
        self._limits = limits
        self._clock = clock
        self._on_fate = on_fate
        self._on_refused = on_refused
        self._offers: queue.Queue[Offer | None] = queue.Queue(limits.queue_size)
        self._lock = threading.Lock()
        """Held while the disk works, for seconds if it is slow. Guards all below but `_published`."""
        self._arena: Arena | None = None
        self._lock_on_file: FileLock | None = None
        self._counts = SpoolState()
        """Without what the open arena counts; the last known figures while none is open."""
        self._taken: set[int] = set()
        """Records that are pinned in the open arena."""
        self._origin_s = 0.0
        self._retry_s = _RETRY_MIN_S
        self._retry_at_s = clock()
        self._published = self._counts
        """Replaced as a whole, so that it can be read while the disk works."""
        self._changed = threading.Condition()
        """Notified after each use of the disk; never held while the disk works."""
        self._is_released = False
        self.in_use: InUseError | None = None
        """Why the file cannot be used at all: another daemon had it at the first attempt to open it."""
        self._closing = threading.Event()
        self._log = get_logger("spool")

    def offer(self, offer: Offer) -> None:
        """Queue a record for the writer, or refuse it at once when the queue is full."""
        if self._closing.is_set():
            self._on_refused(Refusal.CLOSED)
            return
        try:
            self._offers.put_nowait(offer)
        except queue.Full:
            self._on_refused(Refusal.DISK_SLOW)

    def take(self, passing_over: Collection[int] = ()) -> Taken | None:
        """Pin and return the most valuable record; None when there is none. Skips damaged records.

        Returns a record whose id is in `passing_over` only when there is no other.
        """
        with self._using_disk():
            while self._arena is not None and (header := self._arena.best(passing_over)) is not None:
                body = self._arena.read(header.record_id)
                if body is not None:
                    self._arena.pin(header.record_id)
                    self._taken.add(header.record_id)
                    return Taken(header.record_id, body, self._now_s() - header.clock_s)
        return None

    def done(self, record_id: int, *, answered: bool) -> None:
        """Remove a taken record: it was answered, or the cloud can never answer it.

        One that was taken before the file was opened anew stays, and is delivered again.
        """
        with self._using_disk():
            if self._arena is not None and record_id in self._taken:
                self._taken.remove(record_id)
                self._count(answered=answered, failed=not answered)
                fate = Fate.ANSWERED if answered else Fate.FAILED
                self._report(fate, self._arena.remove(record_id))

    def give_back(self, record_id: int) -> None:
        """Unpin a taken record: no answer this time."""
        with self._lock:
            if self._arena is not None and record_id in self._taken:
                self._taken.remove(record_id)
                self._arena.unpin(record_id)

    def state(self) -> SpoolState:
        """The counters after the last use of the disk, at most a second old unless the disk is slow."""
        return self._published

    def wait_until_open(self, timeout_s: float) -> bool:
        """Wait for the first attempt to open the file; tell whether it was made within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._published.error != NOT_OPEN, timeout_s)

    def wait_for_record(self, timeout_s: float) -> bool:
        """Wait until there is a record to take, at most `timeout_s`; tell whether there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_released or self._published.pending > 0, timeout_s)
            return self._published.pending > 0

    def release(self) -> None:
        """End every `wait_for_record`, now and later."""
        with self._changed:
            self._is_released = True
            self._changed.notify_all()

    def run(self) -> None:
        """Body of the writer thread, until `close`; then commits what was offered and closes the file.

        Raises InUseError when another daemon has the file at the start.
        """
        self.step([])  # opens the file now: records in it can be delivered before the first offer
        if self.in_use is not None:
            raise self.in_use
        while not self._closing.is_set():
            self.step(self._collect())
        self.step(self._queued())
        with self._using_disk():
            if (arena := self._arena) is not None:
                self._counts, self._arena = replace(self._snapshot(), error="closed"), None
                arena.close()
        if self._lock_on_file is not None:
            self._lock_on_file.close()

    def close(self) -> None:
        """Refuse further offers and let `run` end."""
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._offers.put_nowait(None)

    def step(self, offers: Sequence[Offer]) -> None:
        """Open the file if it is time to, remove expired records, and commit `offers` with one sync."""
        not_tried = len(offers)
        with self._using_disk():
            if self._clock() >= self._retry_at_s:
                self._open()
                self._expire()
                not_tried = 0
                self._commit(offers)
                self._disk_works()
        self._refuse(Refusal.DISK_FAILED, not_tried)

    def _snapshot(self) -> SpoolState:
        if (arena := self._arena) is None:
            return self._counts
        oldest = arena.oldest
        return replace(
            self._counts,
            pending=len(arena),
            pending_bytes=arena.used_bytes,
            oldest_age_s=self._now_s() - oldest.clock_s if oldest else 0.0,
            evicted=self._counts.evicted + arena.evicted,
            corrupt=self._counts.corrupt + arena.corrupt,
            duplicate=self._counts.duplicate + arena.duplicate,
        )

    def _collect(self) -> list[Offer]:
        """Wait for an offer, then for those that arrive within the commit interval.

        An empty spool has no record that could expire, so that nothing runs until an offer comes.
        """
        state = self._published
        try:
            first = self._offers.get(timeout=_IDLE_S if state.pending or state.error else _EMPTY_S)
        except queue.Empty:
            return []
        if first is None:
            return []
        self._closing.wait(self._limits.commit_interval_s)
        return [first, *self._queued()]

    def _queued(self) -> list[Offer]:
        offers = []
        with contextlib.suppress(queue.Empty):
            while True:
                offers.append(self._offers.get_nowait())
        return [offer for offer in offers if offer is not None]

    def _open(self) -> None:
        if self._arena is not None:
            return
        demand_folder(self._path)
        if self._lock_on_file is None:
            self._lock_on_file = lock_file(self._path, "spool.path")
        else:
            self._lock_on_file.renew()
        arena = self._arena = self._open_arena()
        self._origin_s = self._clock() - arena.latest_clock_s
        found = len(arena) + arena.corrupt + arena.duplicate + arena.evicted
        # Opened anew, it should hold what it did; what is gone with another disk is lost.
        before = self._counts.pending
        self._count(recovered=max(0, found - before), corrupt=max(0, before - found))
        self._counts = replace(self._counts, pending=0)
        say = self._log.warning if arena.corrupt or arena.duplicate else self._log.info
        say(
            "spool open",
            path=str(self._path),
            found=found,
            corrupt=arena.corrupt,
            duplicate=arena.duplicate,
        )

    def _open_arena(self) -> Arena:
        """Open the file; one that is unusable gives way to a fresh one, and to the room that this takes."""
        try:
            return Arena(self._path, self._limits.max_bytes, self._report)
        except UnusableError as error:
            aside = set_aside(self._path)
            self._log.error("spool set aside", path=str(self._path), now=str(aside), error=str(error))
        except OSError as error:
            aside = aside_of(self._path)
            if error.errno != errno.ENOSPC or not aside.exists():
                raise
            aside.unlink()
            self._log.error("what was set aside is removed: the spool needs the room", path=str(aside))
        return Arena(self._path, self._limits.max_bytes, self._report)

    def _expire(self) -> None:
        arena, limit_s = self._arena, self._limits.max_age_s
        assert arena is not None  # noqa: S101 - `step` has opened it
        for header in arena.older_than(self._now_s() - limit_s):
            self._report(Fate.EXPIRED, arena.remove(header.record_id))
            self._count(expired=1)

    def _commit(self, offers: Sequence[Offer]) -> None:
        """Write and sync; report each offer as accepted or refused. If the disk fails, none of them stays."""
        if not offers:
            return
        arena = self._arena
        assert arena is not None  # noqa: S101 - `step` has opened it
        now_s = self._now_s()
        written: dict[int, str] = {}
        no_room = 0
        try:
            for offer in offers:
                record_id = arena.put(offer.value, now_s, offer.key.encode(), offer.body)
                if record_id is None:
                    no_room += 1
                else:
                    written[record_id] = offer.key
            arena.sync()
        except OSError:
            unsafe = [record_id for record_id in written if arena.holds(record_id)]
            self._count(accepted=len(written) - len(unsafe))
            self._refuse(Refusal.DISK_FAILED, len(offers) - no_room - len(written) + len(unsafe))
            for record_id in unsafe:
                with contextlib.suppress(OSError):
                    arena.remove(record_id)
            raise
        finally:
            self._refuse(Refusal.LEAST_VALUABLE, no_room)
        self._count(accepted=len(written), syncs=1)
        for key in written.values():
            self._on_fate(Fate.ACCEPTED, key)

    @contextlib.contextmanager
    def _using_disk(self) -> Iterator[None]:
        """Hold the lock; afterwards publish the counters. A disk that fails becomes a state and a pause."""
        with self._lock:
            try:
                yield
            except (OSError, InUseError) as error:
                if isinstance(error, InUseError) and self._counts.error == NOT_OPEN:
                    self.in_use = error
                self._pause(error)
            finally:
                published = self._snapshot()
                with self._changed:
                    self._published = published
                    self._changed.notify_all()

    def _let_go(self) -> None:
        """Close a file whose disk may be gone; the counters stay as they were."""
        if (arena := self._arena) is not None:
            self._counts, self._arena = self._snapshot(), None
            self._taken.clear()
            with contextlib.suppress(OSError):
                arena.close()

    def _pause(self, error: OSError | InUseError) -> None:
        if not (isinstance(error, OSError) and error.errno in _FULL):
            self._let_go()
        if not self._counts.error or self._retry_s == _RETRY_MIN_S:
            self._log.warning("spool cannot use its disk", path=str(self._path), error=str(error))
        self._counts = replace(self._counts, error=str(error))
        self._retry_at_s = self._clock() + self._retry_s
        self._retry_s = min(_RETRY_MAX_S, 2 * self._retry_s)

    def _disk_works(self) -> None:
        self._retry_s = _RETRY_MIN_S
        if self._counts.error:
            self._counts = replace(self._counts, error="")

    def _report(self, fate: Fate, header: Header) -> None:
        self._on_fate(fate, header.key.decode(errors="replace"))

    def _refuse(self, refusal: Refusal, count: int) -> None:
        for _ in range(count):
            self._on_refused(refusal)

    def _now_s(self) -> float:
        return self._clock() - self._origin_s

    def _count(self, **more: int) -> None:
        current = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = replace(self._counts, **current)
