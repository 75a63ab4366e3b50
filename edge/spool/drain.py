"""The way out of the spool: the most valuable first, one at a time, in what live frames leave of the link."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from common.errors import InvalidInputError
from common.log import get_logger
from common.types import Result
from edge.spool.frames import SpooledFrame
from edge.spool.spool import Spool, Taken
from edge.values import BreakerPhase, CallFailure, LinkState, Outcome, Parcel

_log = get_logger("drain")

_IDLE_S = 0.5
"""How long to wait when there is nothing to send, or no room for it."""
_SPARE_LEVEL = 0.5
_TRIES = 3
"""A record that a living server fails to answer so many times is given up."""
_NEVER = frozenset({"invalid_argument", "not_found", "unimplemented", "unfit", "exceeds bucket"})
"""The server can never answer this, or what waits is nothing that it takes (`unfit`)."""
_LINK = frozenset(
    {
        "unavailable",
        "deadline_exceeded",
        "resource_exhausted",
        "cancelled",
        "stopped",
        "not sent",
        "no uplink",
        "over budget",
        "unauthenticated",
        "permission_denied",
    }
)
"""Nothing was learnt of the record: it waits on."""


class Deliver(Protocol):
    """The part of an uplink that is used here."""

    def link(self) -> LinkState:
        """What is known of the link."""
        ...

    def deliver(self, parcel: Parcel, timeout_s: float) -> Outcome:
        """Send and wait."""
        ...


@dataclass(frozen=True, slots=True)
class DrainLimits:
    """See `edge.config.SpoolConfig`."""

    answer_timeout_s: float
    bytes_per_s: float


class Drain:
    """Sends spooled frames and gives their late results.

    `emit` takes a result and returns when a crash of this process cannot undo it: only then is the record
    forgotten. So a result may be given twice, and never not at all.
    """

    def __init__(
        self, spool: Spool, uplink: Deliver, limits: DrainLimits, emit: Callable[[Result], None]
    ) -> None:
        self._spool = spool
        self._uplink = uplink
        self._limits = limits
        self._emit = emit
        self._closing = threading.Event()
        self._tries: Counter[int] = Counter()

    def run(self) -> None:
        """Body of the thread, until `close`."""
        pause_s = _IDLE_S
        while not self._closing.wait(pause_s):
            pause_s = self.step()

    def close(self) -> None:
        """End after the record under way."""
        self._closing.set()

    def step(self) -> float:
        """Deliver one record if there is one and the link has room; seconds to wait before the next."""
        if not self._has_room() or (taken := self._spool.take()) is None:
            return _IDLE_S
        try:
            frame = SpooledFrame(taken.body)
        except InvalidInputError as error:
            _log.error("spooled frame given up", error=str(error))
            self._spool.done(taken.record_id, answered=False)
            return 0.0
        parcel = frame.parcel
        outcome = self._uplink.deliver(parcel, self._limits.answer_timeout_s)
        if isinstance(outcome, CallFailure):
            return self._failed(taken, outcome)
        self._emit(frame.late_result(outcome, taken.age_s))
        self._tries.pop(taken.record_id, None)
        self._spool.done(taken.record_id, answered=True)
        rate = self._limits.bytes_per_s
        return outcome.sent_bytes / rate if rate else 0.0

    def _has_room(self) -> bool:
        """Live frames keep the last free place; the first call after a pause may be ours, and the probe."""
        link = self._uplink.link()
        if link.breaker is not BreakerPhase.CLOSED:
            return link.breaker_allows
        # Of a byte budget live frames keep the lower half.
        paid = link.tokens.level >= _SPARE_LEVEL
        return paid and link.pushback_left_s <= 0 and link.in_flight < max(1, link.max_in_flight - 1)

    def _failed(self, taken: Taken, failure: CallFailure) -> float:
        if failure.status not in _LINK:
            self._tries[taken.record_id] += 1
        if failure.status in _NEVER or self._tries[taken.record_id] >= _TRIES:
            _log.warning("spooled frame given up", why=str(failure))
            del self._tries[taken.record_id]
            self._spool.done(taken.record_id, answered=False)
        else:
            self._spool.give_back(taken.record_id)
        return _IDLE_S
