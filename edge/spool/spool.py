"""The spool: an arena with time, group commit, counters and a thread, so that no caller waits for a disk.

`offer` hands a record to the writer and returns at once. The writer gathers what comes within the commit
interval, writes it, syncs once, and only then counts it as accepted. `take` gives the most valuable record
and pins it; `done` or `give_back` ends that. Age is counted in seconds that the daemon ran, stored with
each record: a wall clock that jumps can neither empty the spool nor keep it for ever.

A disk that refuses (full, read-only, broken) leaves the spool closed, its state says why, and it is tried
again with growing pauses. The daemon goes on without it.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spillover.common.log import get_logger
from spillover.edge.spool.arena import Arena, Fate
from spillover.edge.spool.record import Header

_IDLE_S = 1.0
"""How often the writer looks for records that are too old when nothing is offered."""
_RETRY_MIN_S, _RETRY_MAX_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """How much, how long, how quickly. See `edge.config.SpoolConfig`."""

    max_bytes: int
    max_age_s: float
    commit_interval_s: float = 0.05
    queue_size: int = 64


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The spool at one moment; the counts are of this run of the daemon.

    `accepted + recovered = answered + failed + evicted + expired + corrupt + pending`.
    """

    pending: int = 0
    """Records on the disk, those under way included."""
    pending_bytes: int = 0
    oldest_age_s: float = 0.0
    recovered: int = 0
    """Records that were there at the start, damaged ones included."""
    accepted: int = 0
    """Records that were synced to the disk."""
    refused: int = 0
    """Offered and never accepted: the writer's queue was full, the disk refused, or worth too little."""
    answered: int = 0
    failed: int = 0
    """The cloud can never answer them, and said so."""
    evicted: int = 0
    expired: int = 0
    corrupt: int = 0
    syncs: int = 0
    error: str = "not open yet"
    """Why the disk is not used now; empty when it is."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A record given out by `take`."""

    record_id: int
    body: bytes
    age_s: float
    """Seconds that the daemon ran since it was spooled."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A record on its way to the disk; `key` is what the observer will call it."""

    value: float
    key: str
    body: bytes


Observe = Callable[[Fate, str], None]
"""Hears what became of a record, by its key. Called under the lock: it must neither block nor call back."""


class Spool:
    """The file at `path`, opened by the writer thread, never by the caller.

    `clock` gives monotonic seconds. All methods may be called from any thread; `offer` never waits for the
    disk.
    """

    def __init__(self, path: Path, limits: SpoolLimits, clock: Callable[[], float], observe: Observe) -> None:
        self._path = path
        self._observe = observe
        self._limits = limits
        self._clock = clock
        self._offers: queue.Queue[Offer | None] = queue.Queue(limits.queue_size)
        self._lock = threading.Lock()
        self._arena: Arena | None = None
        self._counts = SpoolState()
        self._origin_s = 0.0
        self._retry_s = _RETRY_MIN_S
        self._retry_at_s = clock()
        self._closing = threading.Event()
        self._log = get_logger("spool")

    def offer(self, offer: Offer) -> bool:
        """Hand a record to the writer; False when it is refused here and now. True is no promise yet."""
        if not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self._offers.put_nowait(offer)
                return True
        with self._lock:
            self._count(refused=1)
        return False

    def take(self, passing_over: Collection[int] = ()) -> Taken | None:
        """The most valuable record, pinned; None when there is none. Damaged records are passed over.

        One whose id is in `passing_over` is given only when there is no other.
        """
        with self._lock, self._disk():
            while self._arena is not None and (header := self._arena.best(passing_over)) is not None:
                body = self._arena.read(header.record_id)
                if body is not None:
                    self._arena.pin(header.record_id)
                    return Taken(header.record_id, body, self._now_s() - header.clock_s)
        return None

    def done(self, record_id: int, *, answered: bool) -> None:
        """Forget a taken record: it was answered, or the cloud can never answer it."""
        with self._lock, self._disk():
            if self._arena is not None:
                self._count(answered=answered, failed=not answered)
                fate = Fate.ANSWERED if answered else Fate.FAILED
                self._heard(fate, self._arena.remove(record_id))

    def give_back(self, record_id: int) -> None:
        """Put a taken record back: no answer this time."""
        with self._lock:
            if self._arena is not None:
                self._arena.unpin(record_id)

    def state(self) -> SpoolState:
        """The counters now."""
        with self._lock:
            return self._snapshot()

    def run(self) -> None:
        """Body of the writer thread, until `close`; then commits what was offered and closes the file."""
        self.step([])  # opens the file: what waits there is delivered without waiting for an offer
        while not self._closing.is_set():
            self.step(self._gather())
        self.step(self._queued())
        with self._lock, self._disk():
            if (arena := self._arena) is not None:
                self._counts, self._arena = replace(self._snapshot(), error="closed"), None
                arena.close()

    def close(self) -> None:
        """Take no more offers and let `run` end."""
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._offers.put_nowait(None)

    def step(self, offers: Sequence[Offer]) -> None:
        """Open the file when it is time to, drop what is too old, and commit `offers` with one sync."""
        with self._lock:
            if self._clock() >= self._retry_at_s:
                with self._disk():
                    self._open()
                    self._expire()
                    self._commit(offers)
                    self._works()
                    return
            self._count(refused=len(offers))

    def _snapshot(self) -> SpoolState:
        if (arena := self._arena) is None:
            return self._counts
        oldest = arena.oldest
        return replace(
            self._counts,
            pending=len(arena),
            pending_bytes=arena.used_bytes,
            oldest_age_s=self._now_s() - oldest.clock_s if oldest else 0.0,
            evicted=arena.evicted,
            corrupt=arena.corrupt,
        )

    def _gather(self) -> list[Offer]:
        """Wait for an offer, then for those that come within the commit interval."""
        try:
            first = self._offers.get(timeout=_IDLE_S)
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
        self._path.parent.mkdir(parents=True, exist_ok=True)
        arena = self._arena = Arena(self._path, self._limits.max_bytes, self._heard)
        self._origin_s = self._clock() - arena.latest_clock_s
        found = len(arena) + arena.corrupt + arena.evicted
        self._count(recovered=found)
        self._log.info("spool open", path=str(self._path), found=found, corrupt=arena.corrupt)

    def _expire(self) -> None:
        arena, limit_s = self._arena, self._limits.max_age_s
        assert arena is not None  # noqa: S101 - `step` has opened it
        for header in arena.older_than(self._now_s() - limit_s):
            self._heard(Fate.EXPIRED, arena.remove(header.record_id))
            self._count(expired=1)

    def _commit(self, offers: Sequence[Offer]) -> None:
        """Write, sync, count. When the disk refuses, nothing of this group stays."""
        if not offers:
            return
        arena = self._arena
        assert arena is not None  # noqa: S101 - `step` has opened it
        now_s = self._now_s()
        written: dict[int, str] = {}
        try:
            for offer in offers:
                record_id = arena.put(offer.value, now_s, offer.key.encode(), offer.body)
                if record_id is not None:
                    written[record_id] = offer.key
            arena.sync()
        except OSError:
            kept = [record_id for record_id in written if arena.holds(record_id)]
            self._count(accepted=len(written) - len(kept), refused=len(offers) - len(written) + len(kept))
            for record_id in kept:
                with contextlib.suppress(OSError):
                    arena.remove(record_id)
            raise
        self._count(accepted=len(written), refused=len(offers) - len(written), syncs=1)
        for key in written.values():
            self._observe(Fate.ACCEPTED, key)

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        """Turns a disk's refusal into a state and a pause."""
        try:
            yield
        except OSError as error:
            if not self._counts.error or self._retry_s == _RETRY_MIN_S:
                self._log.warning("spool cannot use its disk", path=str(self._path), error=str(error))
            self._counts = replace(self._counts, error=str(error))
            self._retry_at_s = self._clock() + self._retry_s
            self._retry_s = min(_RETRY_MAX_S, 2 * self._retry_s)

    def _heard(self, fate: Fate, header: Header) -> None:
        self._observe(fate, header.key.decode(errors="replace"))

    def _works(self) -> None:
        self._retry_s = _RETRY_MIN_S
        if self._counts.error:
            self._counts = replace(self._counts, error="")

    def _now_s(self) -> float:
        return self._clock() - self._origin_s

    def _count(self, **more: int) -> None:
        current = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = replace(self._counts, **current)
