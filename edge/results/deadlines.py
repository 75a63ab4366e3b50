"""The promise of the edge: exactly one first result per frame, by its deadline, whatever the link does.

A frame that was sent waits here. Its first result is the cloud's if that comes in time, and the local one,
marked EDGE_DEGRADED, at the deadline or as soon as it is known that the cloud will not answer. What the cloud
says after that is a revision of the same frame.

    WAITING --answer--> done (cloud, revision 0)
    WAITING --failure-> done (edge_degraded)
    WAITING --expiry--> LATE (edge_degraded) --answer--> done (cloud, revision 1)
                                             --failure-> done
"""

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from spillover.common.types import Action, AnsweredBy, Result
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.uplink.outcome import CallOutcome, CloudAnswer

NO_ANSWER_IN_TIME = "no answer by the deadline"
PROBE = "probe of a link that was down"
STOPPED = "stopped before the frame was sent"


@dataclass(slots=True, eq=False)
class _Waiting:
    """One frame in the table. Guarded by the table's lock."""

    local: Result
    captured_s: float
    deadline_s: float
    late: bool = False


class DeadlineTable:
    """The table of frames whose cloud answer is awaited.

    `emit` takes each result, in order for a frame; `rescue` takes what could not be sent, for another time;
    `compare` gets the edge's answer beside the cloud's. All are called under the table's lock and must not
    block.
    `clock` gives monotonic seconds, on the same scale as `register`'s arguments. The table knows no thread:
    `run` is the body of the one that watches the deadlines.
    """

    def __init__(
        self,
        emit: Callable[[Result], None],
        clock: Callable[[], float],
        rescue: Callable[[EncodedFrame, Result], None] | None = None,
        compare: Callable[[Result, CloudAnswer], None] | None = None,
    ) -> None:
        self._emit = emit
        self._compare = compare
        self._rescue = rescue
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: dict[str, _Waiting] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._closed = False

    def __len__(self) -> int:
        """Frames in the table, late ones too."""
        return len(self._waiting)

    def register(
        self, local: Result, captured_s: float, deadline_s: float, *, probe: bool = False
    ) -> "PendingFrame":
        """Promise a result for `local.frame_id` by `deadline_s`: `local`, should the cloud fail.

        A `probe` of a dead link waits for nothing: its local result is given at once, and an answer is a
        revision. So is that of a frame that comes after `close`, when nobody watches deadlines any more.
        """
        entry = _Waiting(local, captured_s, deadline_s, late=probe)
        with self._changed:
            if self._closed:
                self._emit(self._degraded(entry, STOPPED))
                return PendingFrame(self, local.frame_id)
            self._waiting[local.frame_id] = entry
            if probe:
                self._emit(self._degraded(entry, PROBE))
                return PendingFrame(self, local.frame_id)
            heapq.heappush(self._deadlines, (deadline_s, local.frame_id))
            if self._deadlines[0][1] == local.frame_id:
                self._changed.notify_all()
        return PendingFrame(self, local.frame_id)

    def encoded(self, frame_id: str, payload_bytes: int, encode_s: float) -> None:
        """Note the payload in whatever result this frame will still give."""
        with self._changed:
            if (entry := self._waiting.get(frame_id)) is not None:
                entry.local = replace(
                    entry.local,
                    payload_bytes=payload_bytes,
                    timings=replace(entry.local.timings, encode_s=encode_s),
                )

    def fall_back(self, frame_id: str, option: str, reason: str) -> None:
        """Note in whatever result this frame will still give that a picture left in place of features."""
        with self._changed:
            if (entry := self._waiting.get(frame_id)) is not None:
                decision = replace(
                    entry.local.decision, action=Action.SEND_FRAME, payload=option, fallback=reason
                )
                entry.local = replace(entry.local, decision=decision)

    def complete(self, frame_id: str, outcome: CallOutcome) -> None:
        """End a frame's call. A frame that is not in the table (any more) is passed over."""
        with self._changed:
            entry = self._waiting.pop(frame_id, None)
            if entry is None:
                return
            if isinstance(outcome, CloudAnswer):
                self._emit(self._from_cloud(entry, outcome))
                if self._compare is not None:
                    self._compare(entry.local, outcome)
            else:
                if not entry.late:
                    self._emit(self._degraded(entry, str(outcome)))
                if self._rescue is not None and outcome.unsent is not None:
                    self._rescue(outcome.unsent, entry.local)
            self._changed.notify_all()

    def expire(self) -> float | None:
        """Give the local result of every frame whose deadline is reached; seconds to the next, or None."""
        with self._changed:
            return self._expire()

    def run(self) -> None:
        """Watch the deadlines until `close`."""
        with self._changed:
            while not self._closed:
                self._changed.wait(self._expire())

    def drain(self, timeout_s: float) -> bool:
        """Wait until every call has ended, late ones too; tell whether `timeout_s` seconds were enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_s)

    def close(self, reason: str) -> int:
        """Give the local result of every frame that still waits, end `run`; tell how many those were."""
        with self._changed:
            waiting = [entry for entry in self._waiting.values() if not entry.late]
            for entry in waiting:
                self._emit(self._degraded(entry, reason))
            self._waiting.clear()
            self._closed = True
            self._changed.notify_all()
            return len(waiting)

    def _expire(self) -> float | None:
        now = self._clock()
        while self._deadlines:
            deadline_s, frame_id = self._deadlines[0]
            entry = self._waiting.get(frame_id)
            if entry is not None and not entry.late:
                if now < deadline_s:
                    return deadline_s - now
                entry.late = True
                self._emit(self._degraded(entry, NO_ANSWER_IN_TIME))
            heapq.heappop(self._deadlines)
        return None

    def _degraded(self, entry: _Waiting, reason: str) -> Result:
        timings = replace(entry.local.timings, total_s=self._clock() - entry.captured_s)
        return replace(entry.local, answered_by=AnsweredBy.EDGE_DEGRADED, timings=timings, error=reason)

    def _from_cloud(self, entry: _Waiting, answer: CloudAnswer) -> Result:
        timings = replace(
            entry.local.timings,
            network_s=answer.network_s,
            server_queue_s=answer.server_queue_s,
            server_decode_s=answer.server_decode_s,
            server_infer_s=answer.server_infer_s,
            total_s=self._clock() - entry.captured_s,
        )
        return replace(
            entry.local,
            answered_by=AnsweredBy.CLOUD,
            prediction=answer.prediction,
            model=answer.model,
            timings=timings,
            revision=1 if entry.late else 0,
            carried_from="",
        )


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """An `edge.uplink.outcome.ReplyHandler` for one frame of the table."""

    table: DeadlineTable
    frame_id: str

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Note the payload."""
        self.table.encoded(self.frame_id, payload_bytes, encode_s)

    def fall_back(self, option: str, reason: str) -> None:
        """Note that a picture leaves in place of features."""
        self.table.fall_back(self.frame_id, option, reason)

    def complete(self, outcome: CallOutcome) -> None:
        """End the call."""
        self.table.complete(self.frame_id, outcome)
