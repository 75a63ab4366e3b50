"""Polygons in shares of the frame, as keys give them."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Annotated

import msgspec

from spillover.common.config import Mistake
from spillover.edge.config.kinds import Share

Point = tuple[Share, Share]
"""x and y in shares of the frame's width and height, from the upper left corner."""
Polygon = Annotated[tuple[Point, ...], msgspec.Meta(min_length=3, max_length=64)]


def polygon_mistakes(polygon: Sequence[Point], key: str) -> Iterator[Mistake]:
    """What keeps a polygon from having one inside: sides that cross or touch, or no area."""
    sides = list(zip(polygon, [*polygon[1:], polygon[0]], strict=True))
    if len(set(polygon)) < len(polygon):
        yield key, "must name each corner once; the last is joined to the first by itself"
        return
    for (one, (a, b)), (other, (c, d)) in combinations(enumerate(sides), 2):
        if other - one in {1, len(sides) - 1}:  # neighbours share a corner
            if _turns_back(a, b, d) if b == c else _turns_back(c, d, b):
                yield key, f"must not turn back on itself, as it does at {list(b if b == c else a)}"
                return
        elif _meet(a, b, c, d):
            yield key, f"must not cross itself: the sides from {list(a)} and from {list(c)} meet"
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
