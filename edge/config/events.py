"""The keys of events: zones, lines, and which objects count."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Annotated, Literal

import msgspec

from spillover.common.config import Mistake, Section
from spillover.edge.config.kinds import Name, NotNegative, Positive, Share

Point = tuple[Share, Share]
"""x and y in shares of the frame's width and height, from the upper left corner."""
Polygon = Annotated[tuple[Point, ...], msgspec.Meta(min_length=3, max_length=64)]
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
        return (polygon_mistakes(self.polygon),)


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


def polygon_mistakes(polygon: Sequence[Point]) -> Iterator[Mistake]:
    """What keeps a polygon from having one inside: sides that cross or touch, or no area."""
    sides = list(zip(polygon, [*polygon[1:], polygon[0]], strict=True))
    if len(set(polygon)) < len(polygon):
        yield "polygon", "must name each corner once; the last is joined to the first by itself"
        return
    for (one, (a, b)), (other, (c, d)) in combinations(enumerate(sides), 2):
        if other - one in {1, len(sides) - 1}:  # neighbours share a corner
            if _turns_back(a, b, d) if b == c else _turns_back(c, d, b):
                yield "polygon", f"must not turn back on itself, as it does at {list(b if b == c else a)}"
                return
        elif _meet(a, b, c, d):
            yield "polygon", f"must not cross itself: the sides from {list(a)} and from {list(c)} meet"
            return


def _turns_back(a: Point, corner: Point, b: Point) -> bool:
    """Whether the ways from a corner to both neighbours begin alike."""
    ahead = (a[0] - corner[0]) * (b[0] - corner[0]) + (a[1] - corner[1]) * (b[1] - corner[1])
    return _turn(a, corner, b) == 0 and ahead > 0


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the sides a-b and c-d have a point in common."""
    if _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0:
        return True
    return any(_is_on(*three) for three in ((a, b, c), (a, b, d), (c, d, a), (c, d, b)))


def _is_on(a: Point, b: Point, p: Point) -> bool:
    within = min(a[0], b[0]) <= p[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])
    return within and _turn(a, b, p) == 0


def _turn(a: Point, b: Point, c: Point) -> float:
    """Above 0 if c lies to the right hand of someone who walks from a to b down the picture's axes."""
    turn = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return turn if abs(turn) > 1e-12 else 0.0
