"""The way out of the spool: the most valuable first, one at a time, in what live frames leave of the link."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from spillover.common.errors import InvalidInputError
from spillover.common.log import get_logger
from spillover.common.types import Result
from spillover.edge.link.state import BreakerPhase, LinkState
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.results.delivery import DeliveryAck
from spillover.edge.spool.frames import SpooledFrame
from spillover.edge.spool.spool import Spool, Taken
from spillover.edge.uplink.outcome import CallFailure, CallOutcome

_log = get_logger("drain")

_IDLE_S = 0.5
"""How long to wait when there is nothing to send, or no room for it."""
_SPARE_LEVEL = 0.5
_TRIES = 3
"""A record that a living server fails to answer so many times is given up."""
_MAX_NOTED = 1024
"""Of so many records it is remembered what became of them; the spool may evict one without telling."""
_NEVER = frozenset({"invalid_argument", "unimplemented", "unfit", "exceeds bucket", "too_large"})
"""The server can never answer this, or what waits is nothing that it takes (`unfit`)."""
_LINK = frozenset(
    {
        "unavailable",
        "deadline_exceeded",
        "cancelled",
        "stopped",
        "not sent",
        "no uplink",
        "over budget",
        "unauthenticated",
        "permission_denied",
        # The model is named in the configuration, here or there: to mend that must not find an empty spool.
        "not_found",
    }
)
"""Nothing was learnt of the record: it waits on."""


class Deliver(Protocol):
    """The part of an uplink that is used here."""

    def link(self) -> LinkState:
        """What is known of the link."""
        ...

    def deliver(self, encoded_frame: EncodedFrame, timeout_s: float) -> CallOutcome:
        """Send and wait."""
        ...


@dataclass(frozen=True, slots=True)
class DrainLimits:
    """See `edge.config.SpoolConfig`."""

    answer_timeout_s: float
    bytes_per_s: float


class Drain:
    """Sends spooled frames and gives their late results.

    `emit` takes a result and gives a receipt: only when a sink has it is the record forgotten. So a result
    may be given twice, and never not at all.

    A record that came back lets the others go first, until one of them is answered or all have had a turn:
    one that the server or the link can never take must not hold up the rest.
    """

    def __init__(
        self, spool: Spool, uplink: Deliver, limits: DrainLimits, emit: Callable[[Result], DeliveryAck]
    ) -> None:
        self._spool = spool
        self._uplink = uplink
        self._limits = limits
        self._emit = emit
        self._closing = threading.Event()
        self._tries: dict[int, int] = {}
        self._came_back: set[int] = set()

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
        if not self._has_room() or (taken := self._take()) is None:
            return _IDLE_S
        try:
            frame = SpooledFrame(taken.body)
        except InvalidInputError as error:
            _log.error("spooled frame given up", error=str(error))
            self._spool.done(taken.record_id, answered=False)
            return 0.0
        encoded_frame = frame.encoded_frame
        outcome = self._uplink.deliver(encoded_frame, self._limits.answer_timeout_s)
        if isinstance(outcome, CallFailure):
            return self._failed(taken, outcome)
        if not self._is_safe(self._emit(frame.late_result(outcome, taken.age_s))):
            return self._comes_back(taken.record_id)
        self._tries.pop(taken.record_id, None)
        self._came_back.clear()
        self._spool.done(taken.record_id, answered=True)
        rate = self._limits.bytes_per_s
        return outcome.sent_bytes / rate if rate else 0.0

    def _take(self) -> Taken | None:
        taken = self._spool.take(self._came_back)
        if taken is None or taken.record_id in self._came_back or len(self._came_back) >= _MAX_NOTED:
            self._came_back.clear()
        return taken

    def _has_room(self) -> bool:
        """Live frames keep the last free place; the first call after a pause may be ours, and the probe."""
        link = self._uplink.link()
        if link.breaker is not BreakerPhase.CLOSED:
            return link.breaker_allows
        # Of a byte budget live frames keep the lower half.
        paid = link.tokens.level >= _SPARE_LEVEL
        return paid and link.pushback_left_s <= 0 and link.in_flight < max(1, link.max_in_flight - 1)

    def _failed(self, taken: Taken, failure: CallFailure) -> float:
        tries = self._tries.pop(taken.record_id, 0)
        if failure.status not in _LINK and not failure.pushed_back:
            tries += 1
        if failure.status in _NEVER or tries >= _TRIES:
            _log.warning("spooled frame given up", why=str(failure))
            self._spool.done(taken.record_id, answered=False)
            return _IDLE_S
        if tries:
            self._tries[taken.record_id] = tries
        if len(self._tries) > _MAX_NOTED:
            del self._tries[next(iter(self._tries))]
        return self._comes_back(taken.record_id)

    def _comes_back(self, record_id: int) -> float:
        self._came_back.add(record_id)
        self._spool.give_back(record_id)
        return _IDLE_S

    def _is_safe(self, ack: DeliveryAck) -> bool:
        """Wait until a sink has the result or none will; at the end, what is not known is not safe.

        A sink that hangs holds up this thread alone.
        """
        while (safe := ack.wait(_IDLE_S)) is None:
            if self._closing.is_set():
                return False
        return safe
