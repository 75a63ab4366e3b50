"""Delivers spooled frames, the most valuable first, one at a time, when live frames leave room."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from spillover.common.errors import InvalidInputError
from spillover.common.log import get_logger
from spillover.common.types import Result
from spillover.edge.link.state import BreakerPhase
from spillover.edge.results.delivery import DeliveryAck
from spillover.edge.spool.frames import SpooledFrame
from spillover.edge.spool.spool import Spool
from spillover.edge.spool.values import Taken
from spillover.edge.uplink.base import Uplink
from spillover.edge.uplink.call_status import DrainStep
from spillover.edge.uplink.outcome import CallFailure

_log = get_logger("drain")

_IDLE_S = 0.5
"""How long to wait when there is nothing to send, or no room for it."""
_EMPTY_S = 60.0
"""How long to wait for a record before looking again."""
_SPARE_LEVEL = 0.5
_TRIES = 3
"""After so many failures that may be its own fault a record is given up."""
_MAX_NOTED = 1024
"""Failures are remembered for so many records: the spool may evict one at any time."""


@dataclass(frozen=True, slots=True)
class DrainLimits:
    """Limits on the drain's calls; `edge.config.SpoolConfig` explains the keys."""

    answer_timeout_s: float
    bytes_per_s: float


class Drain:
    """Sends spooled frames and emits their late results.

    `emit` takes a result and gives its `DeliveryAck`: the record is deleted only when a sink has the result.
    So a result may be emitted twice, but is never lost.

    A record that failed lets the others go first, until one of them is answered or all have had a turn: one
    that the server or the link can never take must not hold up the rest.
    """

    def __init__(
        self, spool: Spool, uplink: Uplink, limits: DrainLimits, emit: Callable[[Result], DeliveryAck]
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
        pause_s = 0.0
        while not self._closing.wait(pause_s):
            pause_s = self.step() if self._spool.wait_for_record(_EMPTY_S) else 0.0

    def close(self) -> None:
        """End after the record under way."""
        self._closing.set()
        self._spool.release()

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
        step = failure.status.means.drain
        tries = self._tries.pop(taken.record_id, 0)
        if step is DrainStep.COUNT_TRY and not failure.pushed_back:
            tries += 1
        if step is DrainStep.GIVE_UP or tries >= _TRIES:
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
