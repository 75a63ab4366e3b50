"""The edge's promise: exactly one first result per frame, by its deadline, in any state of the link.

A sent frame is pending here. If the cloud's answer arrives in time, it is the first result. Otherwise the
first result is the local one, marked EDGE_DEGRADED, at the deadline or as soon as the call has failed. A
cloud answer after that is a revision of the same frame.

    pending --answer---> done (cloud, revision 0)
    pending --failure--> done (edge_degraded)
    pending --deadline-> late (edge_degraded) --answer--> done (cloud, revision 1)
                                              --failure-> done
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from spillover.common.types import Action, AnsweredBy, Result
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.uplink.outcome import CallOutcome, CloudAnswer

NO_ANSWER_IN_TIME = "no answer by the deadline"
PROBE = "probe of a link that was down"
EXPECTED_LATE = "answer expected after the deadline"
STOPPED = "stopped before the frame was sent"


@dataclass(slots=True, eq=False)
class PendingFrame:
    """A sent frame whose call has not ended; the `ReplyHandler` of that call. Guarded by the table's lock."""

    lock: threading.Condition
    end: "Callable[[PendingFrame, CallOutcome], None]"
    local: Result
    captured_s: float
    deadline_s: float
    late: bool = False
    """Whether the frame has its first result, so that an answer can only be a revision."""

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Note the payload in the results that this frame still gets."""
        with self.lock:
            timings = replace(self.local.timings, encode_s=encode_s)
            self.local = replace(self.local, payload_bytes=payload_bytes, timings=timings)

    def fall_back(self, option: str, reason: str) -> None:
        """Note in the results that this frame still gets that a picture was sent, and why."""
        with self.lock:
            decision = replace(self.local.decision, action=Action.SEND_FRAME, payload=option, fallback=reason)
            self.local = replace(self.local, decision=decision)

    def complete(self, outcome: CallOutcome) -> None:
        """End the call. Only the first time counts, and only until the table is closed."""
        self.end(self, outcome)


class DeadlineTable:
    """The frames that wait for a cloud answer. Thread-safe.

    `emit` takes each result, a frame's first one before its revision; it is called under the table's lock and
    must not block. `spool` takes frames that could not be sent, with their local result; `audit` takes the
    local result beside the cloud's answer. Both are called without the lock, after the frame's result.
    `clock` gives monotonic seconds, on the same scale as `register`'s arguments. The table starts no thread:
    `run` is the body of the one that watches the deadlines.
    """

    def __init__(
        self,
        emit: Callable[[Result], None],
        clock: Callable[[], float],
        spool: Callable[[EncodedFrame, Result], None] | None = None,
        audit: Callable[[Result, CloudAnswer], None] | None = None,
    ) -> None:
        self._emit = emit
        self._clock = clock
        self._spool = spool
        self._audit = audit
        self._changed = threading.Condition()
        self._pending: set[PendingFrame] = set()
        self._deadlines: list[tuple[float, int, PendingFrame]] = []
        self._order = itertools.count()
        self._closed = False

    def __len__(self) -> int:
        """Frames whose call has not ended, late ones included."""
        return len(self._pending)

    def register(
        self, local: Result, captured_s: float, deadline_s: float, *, at_once: str = ""
    ) -> PendingFrame:
        """Promise a first result by `deadline_s`: the cloud's, or else `local`.

        With `at_once`, which says why no answer is waited for, the frame gets its local result now; a later
        answer is a revision. After `close` every frame gets its local result at once, and no revision.
        """
        pending = PendingFrame(self._changed, self._complete, local, captured_s, deadline_s, bool(at_once))
        with self._changed:
            if self._closed:
                self._emit(self._degraded(pending, STOPPED))
                return pending
            self._pending.add(pending)
            if at_once:
                self._emit(self._degraded(pending, at_once))
                return pending
            heapq.heappush(self._deadlines, (deadline_s, next(self._order), pending))
            if self._deadlines[0][-1] is pending:
                self._changed.notify_all()
        return pending

    def expire(self) -> float | None:
        """Emit the local result of each frame whose deadline has passed.

        Returns:
            Seconds until the next deadline; None when no frame waits for one.
        """
        with self._changed:
            now = self._clock()
            while self._deadlines:
                deadline_s, _, pending = self._deadlines[0]
                if pending in self._pending:
                    if now < deadline_s:
                        return deadline_s - now
                    pending.late = True
                    self._emit(self._degraded(pending, NO_ANSWER_IN_TIME))
                heapq.heappop(self._deadlines)
            return None

    def run(self) -> None:
        """Emit local results as their deadlines pass, until `close`."""
        with self._changed:
            while not self._closed:
                self._changed.wait(self.expire())

    def drain(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds until every call has ended, late ones too; whether they have."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, timeout_s)

    def close(self, reason: str) -> int:
        """Emit the local result of each frame that still has none, and end `run`; how many those were."""
        with self._changed:
            unanswered = [pending for pending in self._pending if not pending.late]
            for pending in sorted(unanswered, key=lambda pending: pending.captured_s):
                self._emit(self._degraded(pending, reason))
            self._pending.clear()
            self._closed = True
            self._changed.notify_all()
            return len(unanswered)

    def _complete(self, pending: PendingFrame, outcome: CallOutcome) -> None:
        """End a frame's call: emit what it still gets, then spool or audit it.

        The thread that takes the frame out of the table completes it, so nothing happens twice.
        """
        with self._changed:
            if pending not in self._pending:
                return
            self._pending.remove(pending)
            if isinstance(outcome, CloudAnswer):
                self._emit(self._from_cloud(pending, outcome))
            elif not pending.late:
                self._emit(self._degraded(pending, str(outcome)))
            self._changed.notify_all()
        # Not under the lock: spooling encodes, auditing compares and logs, and other frames have deadlines.
        if isinstance(outcome, CloudAnswer):
            if self._audit is not None:
                self._audit(pending.local, outcome)
        elif self._spool is not None and outcome.unsent is not None:
            self._spool(outcome.unsent, pending.local)

    def _degraded(self, pending: PendingFrame, reason: str) -> Result:
        timings = replace(pending.local.timings, total_s=self._clock() - pending.captured_s)
        return replace(pending.local, answered_by=AnsweredBy.EDGE_DEGRADED, timings=timings, error=reason)

    def _from_cloud(self, pending: PendingFrame, answer: CloudAnswer) -> Result:
        timings = replace(
            pending.local.timings,
            network_s=answer.network_s,
            server_queue_s=answer.server_queue_s,
            server_decode_s=answer.server_decode_s,
            server_infer_s=answer.server_infer_s,
            total_s=self._clock() - pending.captured_s,
        )
        return replace(
            pending.local,
            answered_by=AnsweredBy.CLOUD,
            prediction=answer.prediction,
            model=answer.model,
            timings=timings,
            revision=1 if pending.late else 0,
            carried_from="",
            reused_from="",
            tracks=answer.tracks,
            step=None if pending.late else pending.local.step,
        )
