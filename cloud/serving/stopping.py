"""Stopping within one limit: no wait goes beyond it, and what has not ended by then is named."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field

DRAINED, CUT_OFF, UNLOADED, IDLE, STOPPED = 0.8, 0.85, 0.9, 0.95, 1.0
"""Shares of the time by when the steps have ended: the last answers, the calls that had none, the models, the
threads, the metrics page."""


@dataclass(frozen=True, slots=True)
class StopBudget:
    """The time for one stop, from now on, shared out among its steps. `left_behind` names what hangs."""

    limit_s: float
    begun_s: float = field(default_factory=time.monotonic)
    left_behind: list[str] = field(default_factory=list)

    def until(self, share: float) -> float:
        """When this share of the time has passed, in `time.monotonic()` seconds."""
        return self.begun_s + share * self.limit_s


async def finished_by(deadline_s: float, *work: Awaitable[object]) -> bool:
    """Wait for `work`, at most until `time.monotonic()` says `deadline_s`; whether all of it has finished.

    Of what has not, futures and tasks go on and coroutines are cancelled.
    """
    if not work:
        return True
    futures = {asyncio.ensure_future(one) for one in work}
    _, pending = await asyncio.wait(futures, timeout=max(0.0, deadline_s - time.monotonic()))
    for future in pending.difference(work):
        future.cancel()
    return not pending
