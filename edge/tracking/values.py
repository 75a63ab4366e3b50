"""The values of tracking: what a frame tells the tracker, and what the tracker knows."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from spillover.common.types import SeenBy
from spillover.edge.tracking.learned import Learned


class Box(NamedTuple):
    """One detection, in pixels of the frame."""

    left: float
    top: float
    right: float
    bottom: float
    confidence: float
    class_id: int

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.bottom - self.top


class Motion(NamedTuple):
    """How the picture around a point moves from one frame to another, in pixels of the frame."""

    dx: float
    dy: float
    scale: float = 1.0
    """Growth of what is there; 1 is none."""
    measured: bool = True
    """False: too few points were found again, and the motion is the camera's."""


class CameraMotion(NamedTuple):
    """Motion of the background: `x' = a x - b y + dx`, `y' = b x + a y + dy`, in pixels of the frame."""

    a: float = 1.0
    b: float = 0.0
    dx: float = 0.0
    dy: float = 0.0

    def at(self, x: float, y: float) -> Motion:
        """The motion of a background point, not measured there."""
        moved_x, moved_y = self.a * x - self.b * y + self.dx, self.b * x + self.a * y + self.dy
        return Motion(moved_x - x, moved_y - y, math.hypot(self.a, self.b), measured=False)


STILL = CameraMotion()


@dataclass(frozen=True, slots=True)
class Answer:
    """The cloud's boxes of one frame, as they came."""

    captured_s: float
    """Time of capture of that frame, monotonic."""
    frame_id: str
    """Id of that frame."""
    boxes: tuple[Box, ...]
    """What the cloud itself has said of what it was shown."""
    track_ids: tuple[int, ...]
    """The track of each box; one that no track at that frame had is a new track."""
    moved: tuple[Motion | None, ...] = ()
    """Of each box: its motion from that frame to the present; None for one of a living track, or lost."""
    unseen: tuple[int, ...] = ()
    """Tracks of that frame of which the cloud was shown nothing: they were hidden from it."""


@dataclass(frozen=True, slots=True)
class StepInputs:
    """All that one frame tells the tracker: what a log needs so that tracks can be made again."""

    captured_s: float
    """Time of capture, monotonic."""
    width: int
    """Of the picture, in pixels."""
    height: int
    """Of the picture, in pixels."""
    boxes: tuple[Box, ...]
    """The edge's, down to its lowest confidence."""
    cut: bool = False
    """The picture shares nothing with the one before."""
    sent_before: bool = False
    """The frame before this one was sent to the cloud."""
    camera: CameraMotion = STILL
    """Motion of the background since the frame before."""
    motions: tuple[Motion, ...] = ()
    """One for each track of the state that the step starts from, in its order."""
    answers: tuple[Answer, ...] = ()
    """Those that came since the step before, in the order of their arrival."""
    next_id: int = 1
    """Numbers from here on are free: answers that wait for the next step may have taken some."""


class Track(NamedTuple):
    """One object in the present frame. A tuple, because it is made anew several times a frame."""

    track_id: int
    class_id: int
    xyxy: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the frame; may reach beyond the picture."""
    born_s: float
    edge_confidence: float = 0.0
    """Of the edge's boxes, smoothed over frames; 0: the edge has never seen it."""
    edge_box: int = -1
    """Index of its box among the edge's boxes of this frame; -1: the edge does not see it now."""
    edge_s: float = -math.inf
    """Capture of the newest frame on which the edge saw it."""
    cloud_confidence: float = 0.0
    """In the newest answer that had it; 0: the cloud has never seen it."""
    cloud_s: float = -math.inf
    """Capture of the newest frame for which the cloud confirmed it."""
    judged_s: float = -math.inf
    """Capture of the newest frame for which the cloud has answered, with it or without."""
    denials: int = 0
    """Answers in a row that did not have it, the newest one among them."""
    lost: int = 0
    """Frames in a row in which its points were not found again."""

    @property
    def confirmed(self) -> bool:
        """Whether the newest answer for it had it."""
        return self.cloud_confidence > 0 and not self.denials

    @property
    def confirmed_by(self) -> SeenBy:
        """Who saw it last with a model of its own: the cloud, if it was ever right about it."""
        return SeenBy.CLOUD if self.confirmed else SeenBy.EDGE

    @property
    def seen_s(self) -> float:
        """Capture of the frame that confirmed it last; if denied, the edge's newest look, if it had one."""
        return self.cloud_s if self.confirmed or math.isinf(self.edge_s) else self.edge_s


@dataclass(frozen=True, slots=True)
class Moment:
    """The tracks as they were at a sent frame."""

    captured_s: float
    tracks: tuple[Track, ...]
    scene: int


@dataclass(frozen=True, slots=True)
class SinceSent:
    """What has happened since the newest sent frame."""

    births: int = 0
    deaths: int = 0
    flow_failures: int = 0


@dataclass(frozen=True, slots=True)
class TrackerState:
    """All that the tracker knows after a frame."""

    report_threshold: float
    """Boxes from this confidence on are reported."""
    hidden: frozenset[int] = frozenset()
    """Classes of which the cloud says nothing, because they are hidden from it."""
    captured_s: float = -math.inf
    width: int = 0
    height: int = 0
    tracks: tuple[Track, ...] = ()
    """By number."""
    ended: tuple[int, ...] = ()
    """Numbers of the tracks that ended with this frame."""
    next_id: int = 1
    past: tuple[Moment, ...] = ()
    """Sent frames whose answers can still be used, oldest first."""
    since_sent: SinceSent = SinceSent()
    learned: Learned = field(default_factory=Learned)
    answered_s: float = -math.inf
    """Capture of the newest frame that the cloud has answered."""
    answered_id: str = ""
    scene: int = 0
    """Number of the scene, counted by cuts."""
    fresh: bool = True
    """This frame is the first of its scene."""
    refused: int = 0
    """Boxes so far that found no place among the tracks, which were as many as there may be."""
