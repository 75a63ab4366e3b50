"""The keys of events: zones, lines, and which objects count."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal

import msgspec

from spillover.common.config import Mistake, Section
from spillover.edge.config.kinds import Name, NotNegative, Positive, Share
from spillover.edge.config.polygons import Point, Polygon, polygon_mistakes

Classes = tuple[str | int, ...]


class ZoneConfig(Section, frozen=True):
    """A part of the picture. An object is in it if the middle of its box's lower edge is."""

    name: Name
    """Name of the zone in events, topics and status."""
    polygon: Polygon
    """Corners in order, each x and y in shares of the frame from its upper left corner, as in [0.1, 0.5]."""
    classes: Classes = ()
    """Labels or class numbers that may enter, of those that give events; empty: all of them."""
    dwell_s: Positive | None = None
    """An object that is in the zone for so many seconds gives the event `dwell`; null: none does."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a polygon without an inside of its own."""
        return (polygon_mistakes(self.polygon, "polygon"),)


class LineConfig(Section, frozen=True):
    """A line that objects cross, with the middle of their box's lower edge."""

    name: Name
    """Name of the line in events, topics and status."""
    points: tuple[Point, Point]
    """Its two ends, each x and y in shares of the frame, as in [[0.2, 0.5], [0.8, 0.5]].

    To someone who walks from the first to the second, `in` leads to the right hand: here down the picture.
    """
    classes: Classes = ()
    """Labels or class numbers that are seen crossing, of those that give events; empty: all of them."""
    direction: Literal["both", "in", "out"] = "both"
    """Which crossings are events."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a line without a length."""
        return (self._length(),)

    def _length(self) -> Iterator[Mistake]:
        if self.points[0] == self.points[1]:
            yield "points", "must be two different points"


class EventsConfig(Section, frozen=True):
    """Zones, lines and the objects whose events are told. Needs a detector whose boxes are tracked."""

    zones: Annotated[tuple[ZoneConfig, ...], msgspec.Meta(max_length=64)] = ()
    """Parts of the picture: events `enter`, `leave`, `dwell`, and how many are inside."""
    lines: Annotated[tuple[LineConfig, ...], msgspec.Meta(max_length=64)] = ()
    """Lines: event `cross`, and how many went in and out."""
    classes: Classes = ()
    """Labels or class numbers of the objects that give events, as in [person, 2]; empty: all."""
    min_size: Share = 0.0
    """An object counts from the first frame on in which its box has this share of the frame's area."""
    min_age_s: NotNegative = 0.0
    """An object counts once it has been seen for this many seconds."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse two zones or two lines of one name."""
        return self._twice("zones", self.zones), self._twice("lines", self.lines)

    def _twice(self, key: str, named: Sequence[ZoneConfig | LineConfig]) -> Iterator[Mistake]:
        names = [one.name for one in named]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield f"{key}[{index}].name", f"{name!r} is the name of another one too"
