"""What becomes of pictures that leave or wait: redaction and spool."""

import enum
from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.edge.config.kinds import NotNegative, Positive


class RedactionStyle(enum.Enum):
    """How a box is hidden: a few blurred patches, or black."""

    BLUR = "blur"
    FILL = "fill"


class RedactionConfig(Section, frozen=True):
    """What must not be recognisable in any picture that leaves the device or waits on its disk."""

    classes: Annotated[tuple[str | int, ...], msgspec.Meta(min_length=1)]
    """Labels or class numbers of the edge's detector."""
    style: RedactionStyle = RedactionStyle.BLUR
    margin: NotNegative = 0.1
    """Boxes are widened by this share of their size on every side."""


class SpoolConfig(Section, frozen=True):
    """Frames worth a late answer wait on the disk while the link is down."""

    path: str
    """A file, best on the disk that wears least; it takes `max_mb` at once and never more."""
    max_mb: Annotated[float, msgspec.Meta(gt=0)] = 256.0
    max_age_s: Positive = 24 * 3600.0
    """Counted in seconds that the daemon runs."""
    min_gain: float = 0.0
    """Frames whose expected gain is below are not kept."""
    commit_interval_s: Annotated[float, msgspec.Meta(ge=0, le=0.05)] = 0.05
    """Frames that come within this time share one write to the disk."""
    answer_timeout_s: Positive = 10.0
    """How long one of them may take to be answered."""
    drain_bytes_per_s: NotNegative = 0.0
    """Bounds what the spool sends while live frames have the way; 0 is no bound but the in-flight cap."""
