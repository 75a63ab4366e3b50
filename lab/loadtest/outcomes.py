"""The outcome of each frame of a steady window, of real and of simulated edges, as arrays.

Latencies count from when the frame was due by the camera's rate, not from when it was captured, so that they
show a stalled camera or a late generator (no coordinated omission; Tene, "How NOT to Measure Latency",
Strange Loop 2015).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from spillover.common.types import Action
from spillover.edge.sinks.record import Record

EDGE, CLOUD, DEGRADED, DROPPED = range(4)
"""Codes of `Outcomes.ending`."""
_OFFERS = frozenset({Action.SEND_FRAME, Action.SEND_FEATURES})
_ENDINGS = {"edge": EDGE, "cloud": CLOUD, "edge_degraded": DEGRADED}

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """One entry a frame, in any order; all arrays (N,). Times in seconds, NaN where there was none."""

    intended_s: Floats
    """Unix time at which the frame was due by the camera's rate."""
    first_s: Floats
    """From `intended_s` to the first answer."""
    final_s: Floats
    """From `intended_s` to the last answer."""
    emit_s: Floats
    """From capture to the first answer, the time that the edge bounds by its deadline."""
    ending: npt.NDArray[np.int8]
    offered: Flags
    """No rule held the frame back: it was given to the link, at once or from the spool."""
    sent: Flags
    """A payload of it was made and handed to a call."""
    late: Flags
    """A cloud answer came after the first answer, as a revision."""
    payload_bytes: npt.NDArray[np.int64]
    server_queue_s: Floats
    """Wait for the network in the server, as it reports with its answer."""
    server_infer_s: Floats
    reasons: dict[str, int]
    """Why the cloud's answer was missing where it was wanted, and how often."""

    def __len__(self) -> int:
        return len(self.ending)

    @property
    def wanted(self) -> Flags:
        """The mode wanted the cloud's answer, whatever became of that."""
        flags: Flags = self.offered | (self.ending == DEGRADED)
        return flags

    @property
    def answered(self) -> Flags:
        """The cloud answered, in time or later."""
        flags: Flags = (self.ending == CLOUD) | self.late
        return flags

    def in_time(self, deadline_s: float) -> Flags:
        """The cloud's answer was the first, by the deadline."""
        flags: Flags = (self.ending == CLOUD) & (self.first_s <= deadline_s)
        return flags


ARRAYS = tuple(field.name for field in fields(Outcomes) if field.name != "reasons")
"""The names of the arrays of `Outcomes`."""


@dataclass(frozen=True, slots=True)
class Window:
    """The steady window, in Unix seconds."""

    begin_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Seconds from begin to end."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A frame of the window and its records: the first result, and the last one where there are more."""

    first: Record
    final: Record


def join(parts: Sequence[Outcomes]) -> Outcomes:
    """The frames of several edges, or of several runs, as one."""
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    return Outcomes(**arrays, reasons=dict(sum((Counter(part.reasons) for part in parts), Counter())))


def in_window(
    records: Sequence[Record], fps: float, window: Window
) -> tuple[dict[int, Answered], Sequence[int], float]:
    """The answered frames of one edge by number, all numbers of the window, and when number 0 was due.

    The camera paces itself from its first frame; the frame with the least delay shows when that was. A number
    without a record is a frame that was captured, or should have been, and never answered.
    """
    answered: dict[int, Answered] = {}
    for record in records:
        known = answered.get(record.sequence)
        answered[record.sequence] = Answered(known.first if known else record, record)
    if not answered:
        return {}, range(round(window.length_s * fps)), window.begin_s
    start_s = min(r.captured_unix_s - r.sequence / fps for r in records)
    first = int(np.ceil((window.begin_s - start_s) * fps - 1e-6))
    numbers = range(first, first + round(window.length_s * fps))
    return {n: answered[n] for n in numbers if n in answered}, numbers, start_s


def outcomes_of(records: Sequence[Record], fps: float, window: Window) -> Outcomes:
    """The outcomes of the frames in one edge's window."""
    answered, numbers, start_s = in_window(records, fps, window)
    count = len(numbers)
    intended_s = start_s + np.array(numbers, np.float64) / fps
    first_s, final_s, emit_s, queue_s, infer_s = (np.full(count, np.nan) for _ in range(5))
    ending = np.full(count, DROPPED, np.int8)
    payload_bytes = np.zeros(count, np.int64)
    offered, sent, late = (np.zeros(count, np.bool_) for _ in range(3))
    for index, number in enumerate(numbers):
        if (frame := answered.get(number)) is None:
            continue
        delay_s = frame.first.captured_unix_s - intended_s[index]
        emit_s[index] = frame.first.timings.total_s
        first_s[index] = delay_s + frame.first.timings.total_s
        final_s[index] = delay_s + frame.final.timings.total_s
        ending[index] = _ENDINGS[frame.first.answered_by]
        late[index] = frame.final.revision > 0
        payload_bytes[index] = frame.final.payload_bytes
        sent[index] = frame.final.payload_bytes > 0
        offered[index] = sent[index] or frame.first.decision.action in _OFFERS
        if frame.final.answered_by == "cloud":
            queue_s[index] = frame.final.timings.server_queue_s
            infer_s[index] = frame.final.timings.server_infer_s
    reasons = Counter(_reason(frame.first) for frame in answered.values() if frame.first.error)
    return Outcomes(
        intended_s=intended_s,
        first_s=first_s,
        final_s=final_s,
        emit_s=emit_s,
        ending=ending,
        offered=offered,
        sent=sent,
        late=late,
        payload_bytes=payload_bytes,
        server_queue_s=queue_s,
        server_infer_s=infer_s,
        reasons=dict(reasons),
    )


def _reason(record: Record) -> str:
    """The status of a failed call without its free text, so that equal causes are counted together."""
    return record.error.partition(":")[0]


def percentile_ms(seconds: Floats, percent: float) -> float | None:
    """A percentile in milliseconds of the entries that are not NaN; None where there are none.

    It is a measured value (the next higher one): p99.9 of few frames is their maximum, not an interpolation
    below it.
    """
    known = seconds[~np.isnan(seconds)]
    return float(np.percentile(known, percent, method="higher") * 1e3) if known.size else None
