"""What goes into the events' state machine and what comes out."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from spillover.common.types import FloatArray, IntArray
from spillover.edge.events.geometry import Floats
from spillover.edge.results.delivery import EventKind


class Phase(enum.Enum):
    """How sure an event is."""

    PROVISIONAL = "provisional"
    """Only the edge has seen the object."""
    CONFIRMED = "confirmed"
    """The cloud has seen the object too."""
    WITHDRAWN = "withdrawn"
    """The cloud looked at a frame that showed the object, and did not see it."""


class Direction(enum.Enum):
    """The way over a line."""

    IN = "in"
    """To the right hand of someone who walks from its first point to its second."""
    OUT = "out"
    """To the left hand."""


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """A zone whose classes are numbers; empty: all."""

    name: str
    corners: Floats
    classes: frozenset[int] = frozenset()
    dwell_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A line whose classes are numbers; empty: all."""

    name: str
    start: Floats
    end: Floats
    classes: frozenset[int] = frozenset()
    directions: frozenset[Direction] = frozenset(Direction)


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What is an event at one camera."""

    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    classes: frozenset[int] = frozenset()
    """Classes of objects that give events; empty: all."""
    min_size: float = 0.0
    """Share of the frame's area."""
    min_age_s: float = 0.0
    settle_s: float = 0.0
    """For so long after a frame the cloud's answer to it may still come."""


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """The tracked boxes that one frame shows."""

    frame_id: str
    sequence: int
    at_s: float
    """When it was captured, in monotonic seconds."""
    at_unix_s: float
    width: int
    height: int
    xyxy: FloatArray
    """(N, 4) in pixels."""
    confidence: FloatArray
    class_id: IntArray
    track_id: npt.NDArray[np.int64]
    by_cloud: npt.NDArray[np.bool_]
    """Whether the cloud was the last to see the object."""
    ended: tuple[int, ...] = ()
    """Tracks that ended with this frame."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The cloud's answer to one frame."""

    frame_id: str
    shown: frozenset[int]
    """Tracks that the edge showed in it."""
    seen: Mapping[int, float]
    """Tracks that the cloud sees in it, with its confidence."""


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """What one object did. It is told once, and once more when the cloud settles a provisional one."""

    kind: EventKind
    phase: Phase
    frame_id: str
    """The frame in which it happened."""
    sequence: int
    at_unix_s: float
    track_id: int
    class_id: int
    best_frame_id: str
    """The frame that has shown the object with the highest confidence so far."""
    zone: str = ""
    line: str = ""
    direction: str = ""
    settles: bool = False
    """Whether it was told before, as provisional."""

    @property
    def event_id(self) -> str:
        """The same in both phases, and unique."""
        where = self.zone or self.line
        return f"{self.frame_id}:{self.kind.value}:{self.track_id}{f':{where}' if where else ''}"


@dataclass(frozen=True, slots=True)
class Counts:
    """Who is in each zone, and what each line has counted."""

    zones: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """By zone and class."""
    lines: Mapping[str, Mapping[Direction, int]] = field(default_factory=dict)
    """Crossings since the start, withdrawn ones left out."""
