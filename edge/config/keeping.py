"""The keys of redaction and of the spool: pictures that leave the device or wait on its disk."""

import enum
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from spillover.common.config import Mistake, Section
from spillover.edge.config.kinds import NotNegative, Positive
from spillover.edge.config.polygons import Polygon, polygon_mistakes


class RedactionStyle(enum.Enum):
    """How a box is hidden."""

    BLUR = "blur"
    """Reduce it to a few blurred patches."""
    FILL = "fill"
    """Paint it black."""


class RedactionConfig(Section, frozen=True):
    """What must not be recognisable in pictures that leave the device or wait on its disk.

    The edge's boxes of `classes` stay in the results: they join the cloud's answers.
    """

    classes: tuple[str | int, ...] = ()
    """Labels or class numbers of the edge's detector, as in [person, 2]; detectors only."""
    masks: Annotated[tuple[Polygon, ...], msgspec.Meta(max_length=64)] = ()
    """Parts of the picture that nobody sees, the edge's own model included: polygons that are painted black.

    Corners are shares of the frame from its upper left corner, as in [[[0.7, 0], [1, 0], [1, 0.3]]].
    """
    style: RedactionStyle = RedactionStyle.BLUR
    """How a box is hidden."""
    margin: NotNegative = 0.1
    """Widen boxes by this share of their size on every side."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a section that hides nothing, and polygons without an inside of their own."""
        masks = (polygon_mistakes(polygon, f"masks[{index}]") for index, polygon in enumerate(self.masks))
        return self._something(), *masks

    def _something(self) -> Iterator[Mistake]:
        if not self.classes and not self.masks:
            yield "classes", "or masks must name something to hide; leave `redaction` out to hide nothing"


class SpoolConfig(Section, frozen=True):
    """Frames that are worth a late answer wait on the disk while the link is down."""

    path: str
    """The file; put it on the disk that wears least. It takes `max_mb` at once and never grows.

    Its folder must be there: none is made, and a disk that is not mounted is waited for.
    """
    max_mb: Annotated[float, msgspec.Meta(gt=0)] = 256.0
    """Size of the file. When it is full, the least valuable frames are dropped."""
    max_age_s: Positive = 24 * 3600.0
    """Drop frames older than this, counted in seconds that the daemon runs."""
    min_gain: float = 0.0
    """Frames with a lower expected gain are not stored."""
    commit_interval_s: Annotated[float, msgspec.Meta(ge=0, le=0.05)] = 0.05
    """Frames that arrive within this time share one write to the disk."""
    answer_timeout_s: Positive = 10.0
    """How long the cloud may take to answer one stored frame."""
    drain_bytes_per_s: NotNegative = 0.0
    """Limit on what the spool sends; 0: as much as live frames leave free."""
