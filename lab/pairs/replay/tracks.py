"""Makes the tracks of a log again, from what its tracker was told of each frame; pixels are not needed."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from spillover.common.types import AnsweredBy
from spillover.edge.sinks.record import Record
from spillover.edge.tracking.life import step
from spillover.edge.tracking.presentation import shown
from spillover.edge.tracking.steps import StepRecord, digest_of
from spillover.edge.tracking.values import TrackerState
from spillover.lab.pairs.replay.remake import named


@dataclass(frozen=True, slots=True)
class RemadeTracks:
    """How many frames were tracked, and what became of them when their tracks were made again."""

    frames: int
    different: tuple[str, ...]
    """Frames whose tracks came out otherwise."""
    broken: tuple[str, ...] = ()
    """Frames that could not be made again, because one before them is not in the log."""
    short: int = 0
    """Frames with tracks whose inputs are not in the log."""

    def lines(self) -> Iterator[str]:
        """What to tell of it."""
        if self.frames:
            same = self.frames - len(self.different) - len(self.broken)
            yield (
                f"tracks made again from their inputs: {same} of {self.frames} frames the same"
                f"{named(self.different)}"
            )
        if self.broken:
            yield (
                f"tracks of {len(self.broken)} frames cannot be made again, from {self.broken[0]} on: "
                "the log lacks a frame before"
            )
        if self.short:
            yield (
                f"tracks of {self.short} frames have no inputs and cannot be made again: "
                "write the log with `decision: full` on its sink"
            )


def remake_tracks(records: Sequence[Record]) -> RemadeTracks:
    """Make the tracks of a log again, camera by camera, and compare every bit of them.

    A log that begins in the middle of a run, or lacks a frame, can be followed up to there only.
    """
    different: list[str] = []
    broken: list[str] = []
    runs: defaultdict[str, list[tuple[Record, StepRecord]]] = defaultdict(list)
    for record in records:
        if record.tracking is not None:
            runs[record.frame_id.rpartition("-")[0]].append((record, record.tracking))
    for run in runs.values():
        _remake_run(sorted(run, key=lambda one: one[0].sequence), different, broken)
    short = sum(record.tracking is None and _has_tracks(record) for record in records)
    return RemadeTracks(sum(map(len, runs.values())), tuple(different), tuple(broken), short)


def _remake_run(run: Iterable[tuple[Record, StepRecord]], different: list[str], broken: list[str]) -> None:
    """The frames of one camera and start of the daemon, in their order."""
    state: TrackerState | None = None
    following = 0
    for record, logged in run:
        if logged.number == 0:  # the first frame of a tracker
            state, following = TrackerState(logged.report_threshold), 0
        if state is None or logged.number != following:
            state = None
            broken.append(record.frame_id)
            continue
        state = replace(state, report_threshold=logged.report_threshold, hidden=frozenset(logged.hidden))
        state = step(state, logged.inputs)
        following += 1
        if not _is_same(state, record, logged):
            different.append(record.frame_id)


def _is_same(state: TrackerState, record: Record, logged: StepRecord) -> bool:
    """Whether the state is the logged one, and shows what the edge has shown."""
    if digest_of(state) != logged.digest:
        return False
    if record.answered_by == AnsweredBy.CLOUD.value:
        return True
    marks = shown(state, logged.inputs.boxes).tracks or ()
    numbers = [(mark.track_id, mark.confirmed_by.value) for mark in marks]
    return numbers == [(box.track_id, box.confirmed_by) for box in record.boxes or ()]


def _has_tracks(record: Record) -> bool:
    return any(box.track_id is not None for box in record.boxes or ())
