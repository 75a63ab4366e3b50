"""One timer for many things that must each end within the same time.

A timer of its own for each call, or `asyncio.timeout`, costs several times as much.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class TimeLimit(Generic[T]):
    """Tells `overdue` of what has not ended within `limit_s` seconds; of several at once if they are due.

    Everything runs on the event loop.
    """

    def __init__(self, limit_s: float, overdue: Callable[[list[T]], None]) -> None:
        self.limit_s = limit_s
        self._overdue = overdue
        self._due_s: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, one: T) -> None:
        """From now on it has `limit_s`."""
        self._due_s[one] = time.monotonic() + self.limit_s
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.limit_s, self._check)

    def ended(self, one: T) -> None:
        """It has ended, or has been given up; a second time does nothing."""
        self._due_s.pop(one, None)

    def stop(self) -> None:
        """Check no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = None
        now_s = time.monotonic()
        overdue = [one for one, due_s in self._due_s.items() if due_s <= now_s]
        for one in overdue:
            del self._due_s[one]
        if self._due_s:  # the oldest comes first
            wait_s = next(iter(self._due_s.values())) - now_s
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._check)
        if overdue:
            self._overdue(overdue)
