"""A bounded queue between threads; its constructor sets what happens when it is full."""

import enum
import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOK_UP_S = 1.0
"""No wait is longer; what it waits for is then looked at again."""


class WhenFull(enum.Enum):
    """What `BoundedQueue.put` does when there is no room."""

    DROP_OLDEST = "drop_oldest"
    """Newest wins: a camera's frames."""
    DROP_NEWEST = "drop_newest"
    """What is queued stays: results."""
    BLOCK = "block"
    """The producer waits: offline work, where nothing may be lost."""


class BoundedQueue(Generic[T]):
    """At most `capacity` items, first in first out, between any number of threads.

    `close` ends every wait, and the stop of its threads calls it.
    """

    def __init__(self, capacity: int, when_full: WhenFull) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._when_full = when_full
        self._closed = False
        lock = threading.Lock()
        self._filled = threading.Condition(lock)
        self._freed = threading.Condition(lock)

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> T | None:
        """Add `item`; return what was dropped: None, an older item, or `item` itself (full, or closed)."""
        with self._filled:
            if self._when_full is WhenFull.BLOCK:
                while not self._freed.wait_for(self._has_room_or_closed, _LOOK_UP_S):
                    pass
            if self._closed:
                return item
            dropped: T | None = None
            if len(self._items) >= self._capacity:
                if self._when_full is WhenFull.DROP_NEWEST:
                    return item
                dropped = self._items.popleft()
            self._items.append(item)
            self._filled.notify()
            return dropped

    def put_beyond(self, item: T) -> bool:
        """Add `item` whether there is room or not, for the few that must not be dropped; False: closed."""
        with self._filled:
            if not self._closed:
                self._items.append(item)
                self._filled.notify()
            return not self._closed

    def resize(self, capacity: int) -> None:
        """Hold so many items from now on; what is queued stays."""
        with self._filled:
            self._capacity = capacity
            self._freed.notify_all()

    def get(self) -> T | None:
        """Wait for the oldest item and take it; None once the queue is closed and empty."""
        with self._filled:
            while not self._filled.wait_for(lambda: self._items or self._closed, _LOOK_UP_S):
                pass
            if not self._items:
                return None
            item = self._items.popleft()
            self._freed.notify_all()
            return item

    def wait_for_item(self, timeout_s: float) -> bool:
        """Wait until `get` would not, at most `timeout_s` seconds; tell whether it would not."""
        with self._filled:
            return bool(self._filled.wait_for(lambda: self._items or self._closed, timeout_s))

    def poll(self) -> T | None:
        """Take the oldest item if there is one."""
        with self._filled:
            if not self._items:
                return None
            item = self._items.popleft()
            self._freed.notify_all()
            return item

    @property
    def has_ended(self) -> bool:
        """Whether the queue is closed and empty."""
        with self._filled:
            return self._closed and not self._items

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until there is room, at most `timeout_s` seconds; tell whether there is."""
        with self._freed:
            return self._freed.wait_for(self._has_room_or_closed, timeout_s)

    def close(self) -> None:
        """Take nothing more; what is queued can still be got."""
        with self._filled:
            self._closed = True
            self._filled.notify_all()
            self._freed.notify_all()

    def discard(self) -> list[T]:
        """Remove and return everything in the queue."""
        with self._filled:
            dropped = list(self._items)
            self._items.clear()
            self._freed.notify_all()
            return dropped

    def _has_room_or_closed(self) -> bool:
        return self._closed or len(self._items) < self._capacity
