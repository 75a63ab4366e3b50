"""One step of a tracker as a log keeps it: its inputs, and a digest of what it made of them."""

import zlib
from dataclasses import dataclass

import msgspec

from spillover.edge.tracking.values import StepInputs, TrackerState

_encoder = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a log holds of one step."""

    number: int
    """Of the tracker's steps, from 0: where one is missing, those after it cannot be made again."""
    report_threshold: float
    """Boxes from this confidence on were reported."""
    hidden: tuple[int, ...]
    """Classes that were hidden from the cloud."""
    inputs: StepInputs
    """All that the frame told: `life.step` makes the next state from it and the one before."""
    digest: int
    """`digest_of` the state after it."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackStep:
    """One step of a running tracker; a `spillover.common.types.Step`."""

    number: int
    inputs: StepInputs
    state: TrackerState
    """After it."""

    def as_record(self) -> StepRecord:
        """For a log."""
        state = self.state
        hidden = tuple(sorted(state.hidden))
        return StepRecord(self.number, state.report_threshold, hidden, self.inputs, digest_of(state))


def digest_of(state: TrackerState) -> int:
    """CRC-32 of everything that a result shows of a state: tracks, and what was learned; all bits count."""
    return zlib.crc32(_encoder.encode((state.tracks, state.learned, state.next_id, state.answered_id)))
