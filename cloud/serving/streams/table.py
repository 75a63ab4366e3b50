"""Which streams are held, in whose name, and which makes room. No threads, no clock, no I/O."""

import enum
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from spillover.cloud.serving.memory import HOLDER_SHARE, UNPROVEN_SHARE
from spillover.common.errors import StreamRefusedError

IDLE_S = 5.0
"""A stream that nobody has used for so long may make room for another."""


class Refusal(enum.StrEnum):
    """Why a stream may not begin."""

    FULL = "full"
    """All room is taken by streams that are in use."""
    SHARE = "share"
    """The caller, or all callers without an identity together, have what they may have."""
    CODEC = "codec"
    """This server has no codec."""
    OFF = "off"
    """The server keeps no streams, or no more as it stops."""


_TEXTS = {
    Refusal.FULL: "all streams are in use",
    Refusal.SHARE: "one caller may have a quarter of limits.stream_bytes, all without an identity half",
}


class RefusedError(StreamRefusedError):
    """`reason` says why."""

    def __init__(self, reason: Refusal, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Owner:
    """Who is charged for a stream."""

    holder: str
    is_proven: bool


K = TypeVar("K", bound=Hashable)
S = TypeVar("S")


@dataclass(slots=True)
class _Entry(Generic[S]):
    stream: S
    owner: Owner
    size: int = 0
    users: int = 0
    last_s: float = 0.0


class StreamTable(Generic[K, S]):
    """Streams within `total` bytes, in the order of their last use.

    A stream in use is never dropped, nor one that was used less than `IDLE_S` ago. Times are the caller's, in
    seconds of one clock.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        """Bytes that are charged."""
        self.busy = 0
        """How many streams are in use."""
        self._entries: OrderedDict[K, _Entry[S]] = OrderedDict()
        self._by_owner: Counter[Owner] = Counter()
        self._unproven = 0

    def __len__(self) -> int:
        return len(self._entries)

    def enter(self, key: K, now_s: float) -> S | None:
        """Use a stream from now on, until `leave`; None when it is not held."""
        if (entry := self._entries.get(key)) is None:
            return None
        self.busy += not entry.users
        entry.users += 1
        entry.last_s = now_s
        self._entries.move_to_end(key)
        return entry.stream

    def begin(self, key: K, owner: Owner, size: int, now_s: float, make: Callable[[], S]) -> tuple[S, int]:
        """As `enter`, but begin the stream if it is not held, or let it grow to `size` bytes.

        Gives also how many others were dropped to make room. A stream that is held stays its owner's, and
        never shrinks, because calls may be under way that still need what it was.

        Raises:
            RefusedError: there is no room; nothing was changed.
        """
        entry = self._entries.get(key)
        owner = entry.owner if entry else owner
        more = max(0, size - entry.size) if entry else size
        dropped = self._room(key, owner, more, now_s)
        for one in dropped:
            self._drop(one)
        if entry is None:
            entry = self._entries[key] = _Entry(make(), owner)
        entry.size += more
        self._charge(owner, more)
        self.enter(key, now_s)
        return entry.stream, len(dropped)

    def leave(self, key: K, now_s: float, *, useless: bool = False) -> None:
        """The end of an `enter` or a `begin`; a stream that is `useless` may make room at once."""
        if (entry := self._entries.get(key)) is None:
            return  # everything was dropped meanwhile
        entry.users -= 1
        self.busy -= not entry.users
        entry.last_s = now_s - IDLE_S if useless else now_s
        if useless:
            self._entries.move_to_end(key, last=False)

    def clear(self) -> None:
        """Hold nothing any longer."""
        for key in list(self._entries):
            self._drop(key)
        self.busy = 0

    def _room(self, key: K, owner: Owner, more: int, now_s: float) -> list[K]:
        """The streams that go so that `owner` may have `more`: no more than needed, longest unused first."""
        idle = [
            (found, entry)
            for found, entry in self._entries.items()
            if found != key and not entry.users and now_s - entry.last_s >= IDLE_S
        ]
        gone: dict[K, _Entry[S]] = {}
        for reason, over, counts in self._bounds(owner, more):
            excess = over - sum(entry.size for entry in gone.values() if counts(entry.owner))
            for found, entry in idle:
                if excess <= 0:
                    break
                if found not in gone and counts(entry.owner):
                    gone[found] = entry
                    excess -= entry.size
            if excess > 0:
                raise RefusedError(reason, f"no room for {more} bytes of a stream: {_TEXTS[reason]}")
        return list(gone)

    def _bounds(self, owner: Owner, more: int) -> Iterator[tuple[Refusal, int, Callable[[Owner], bool]]]:
        """Why it may be too much, by how many bytes, and whose streams count for that."""
        after = self._by_owner[owner] + more
        yield Refusal.SHARE, after - self.total // HOLDER_SHARE, lambda one: one == owner
        if not owner.is_proven:
            after = self._unproven + more
            yield Refusal.SHARE, after - self.total // UNPROVEN_SHARE, lambda one: not one.is_proven
        yield Refusal.FULL, self.used + more - self.total, lambda _: True

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key)
        self._charge(entry.owner, -entry.size)

    def _charge(self, owner: Owner, more: int) -> None:
        self.used += more
        self._by_owner[owner] += more
        self._unproven += 0 if owner.is_proven else more
        if not self._by_owner[owner]:
            del self._by_owner[owner]
