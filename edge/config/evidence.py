"""The keys of evidence: which pictures are kept on the device, and how much room they may take."""

import enum
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from spillover.common.config import Mistake, Section
from spillover.edge.config.kinds import Positive


class Occasion(enum.Enum):
    """What a frame is kept for."""

    EVENTS = "events"
    """A tracked object did something in it; needs `events`."""
    OFFLOADS = "offloads"
    """It is sent to the cloud."""
    DISAGREEMENTS = "disagreements"
    """The cloud's answer is less like the edge's than `policy.agree_from`."""
    AUDITS = "audits"
    """It was drawn at random, to compare both answers."""


class ClipConfig(Section, frozen=True):
    """Clips of what happened before and after an event, as MP4; needs the extra `video`."""

    before_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 5.0
    """Seconds before the event."""
    after_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0
    """Seconds after it; an event meanwhile prolongs the clip, to 60 seconds after the first one."""
    fps: Annotated[float, msgspec.Meta(gt=0, le=30)] = 10.0
    """Pictures a second at most, of those that the model sees."""
    memory_mb: Annotated[float, msgspec.Meta(ge=1)] = 16.0
    """What the last seconds of all cameras may take in memory."""


class EvidenceConfig(Section, frozen=True):
    """Keeps a picture of frames that somebody will ask for. What is to be hidden is hidden in them too."""

    folder: str
    """Where they are kept: a folder of this daemon's own, which must be there. Other files in it stay."""
    snapshots: tuple[Occasion, ...] = (Occasion.EVENTS, Occasion.DISAGREEMENTS)
    """What a frame is kept for, each as `FRAME_ID.jpg`, with boxes as `FRAME_ID.boxes.jpg`."""
    clip: ClipConfig | None = None
    """Clips of events, each as `FRAME_ID.mp4`; null: none."""
    max_mb: Annotated[float, msgspec.Meta(ge=1)] = 1000.0
    """What all of it may take. The oldest goes first; also when the disk has little room left."""
    keep_days: Positive = 30.0
    """Delete what is older than this many days."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a section that keeps nothing."""
        return (self._something(),)

    def _something(self) -> Iterator[Mistake]:
        if not self.snapshots and self.clip is None:
            yield "snapshots", "or clip must name something; leave `evidence` out to keep nothing"
