"""Points against polygons and lines. All coordinates are shares of the frame, y down."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Steps = npt.NDArray[np.int8]

_ON_EDGE = 1e-9
_TINY = 1e-18


def anchors(xyxy: npt.NDArray[np.floating], width: int, height: int) -> Floats:
    """The middle of the lower edge of boxes (N, 4) in pixels, as (N, 2) in shares, inside the frame.

    Where a person stands: the middle of the box would be in zones that the feet have not reached.
    """
    boxes = xyxy.astype(np.float64)
    points = np.stack([(boxes[:, 0] + boxes[:, 2]) / (2 * width), boxes[:, 3] / height], axis=1)
    inside: Floats = np.clip(points, 0.0, 1.0)
    return inside


def distance_to_sides(points: Floats, starts: Floats, ends: Floats) -> Floats:
    """The distance (N,) of points (N, 2) to the nearest of the sides from (M, 2) to (M, 2)."""
    along = ends - starts
    offset = points[:, None, :] - starts[None, :, :]
    length = np.maximum((along**2).sum(axis=1), _TINY)
    share = np.clip((offset * along).sum(axis=2) / length, 0.0, 1.0)
    nearest: Floats = np.sqrt(((offset - share[:, :, None] * along) ** 2).sum(axis=2)).min(axis=1)
    return nearest


def in_polygon(points: Floats, corners: Floats) -> tuple[Mask, Floats]:
    """Whether points (N, 2) are inside a polygon (M, 2), its border included; and their distance to that.

    Ray casting by the even-odd rule (Shimrat, CACM 1962).
    """
    starts, ends = corners, np.roll(corners, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    spans = (starts[:, 1] > y) != (ends[:, 1] > y)
    rise = np.where(ends[:, 1] == starts[:, 1], 1.0, ends[:, 1] - starts[:, 1])
    at = starts[:, 0] + (y - starts[:, 1]) * (ends[:, 0] - starts[:, 0]) / rise
    distance = distance_to_sides(points, starts, ends)
    inside = ((spans & (x < at)).sum(axis=1) % 2 == 1) | (distance <= _ON_EDGE)
    return inside, distance


def crossings(before: Floats, now: Floats, start: Floats, end: Floats) -> Steps:
    """How moves from `before` to `now` (N, 2) cross the line from `start` to `end` (2,), as (N,).

    1: to the right hand of someone who walks along the line; -1: to the left; 0: not at all. A point on the
    line belongs to its right side, so a move that ends there and the next one are one crossing together.
    """
    along = end - start
    side_before, side_now = _side(before, start, along), _side(now, start, along)
    changes = (side_before >= 0) != (side_now >= 0)
    apart = np.where(changes, side_before - side_now, 1.0)
    met = before + (now - before) * (side_before / apart)[:, None]
    share = ((met - start) * along).sum(axis=1) / max(float((along**2).sum()), _TINY)
    crosses = changes & (share >= -_ON_EDGE) & (share <= 1 + _ON_EDGE)
    found: Steps = np.where(crosses, np.where(side_now >= 0, 1, -1), 0).astype(np.int8)
    return found


def _side(points: Floats, start: Floats, along: Floats) -> Floats:
    offset = points - start
    side: Floats = along[0] * offset[:, 1] - along[1] * offset[:, 0]
    return side
