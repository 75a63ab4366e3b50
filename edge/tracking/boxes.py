"""Geometry of tracked boxes: left, top, right, bottom in pixels of the frame, as four floats."""

from collections.abc import Sequence

from spillover.edge.tracking.values import Box, Motion

XYXY = tuple[float, float, float, float]


def xyxy_of(box: Box) -> XYXY:
    """The four sides of a detection."""
    return box.left, box.top, box.right, box.bottom


def moved(xyxy: XYXY, motion: Motion) -> XYXY:
    """The box after a motion of what it shows; it grows around its centre."""
    left, top, right, bottom = xyxy
    x, y = (left + right) / 2 + motion.dx, (top + bottom) / 2 + motion.dy
    half_width, half_height = (right - left) / 2 * motion.scale, (bottom - top) / 2 * motion.scale
    return x - half_width, y - half_height, x + half_width, y + half_height


def between(before: XYXY, after: XYXY) -> Motion:
    """The motion that makes one box the other, as far as one scale can."""
    width, height = before[2] - before[0], before[3] - before[1]
    grown = (after[2] - after[0]) + (after[3] - after[1])
    return Motion(
        (after[0] + after[2] - before[0] - before[2]) / 2,
        (after[1] + after[3] - before[1] - before[3]) / 2,
        grown / (width + height) if width + height > 0 else 1.0,
    )


def carried(box: XYXY, then: XYXY, now: XYXY) -> XYXY:
    """Where `box` is now if it moved as the box beside it did, from `then` to `now`."""
    motion = between(then, now)
    shift_x = (box[0] + box[2] - then[0] - then[2]) / 2 * (motion.scale - 1.0)
    shift_y = (box[1] + box[3] - then[1] - then[3]) / 2 * (motion.scale - 1.0)
    return moved(box, Motion(motion.dx + shift_x, motion.dy + shift_y, motion.scale))


def blend(a: XYXY, b: XYXY, weight: float) -> XYXY:
    """The box between two, `weight` of the way from the first to the second."""
    rest = 1.0 - weight
    return (
        a[0] * rest + b[0] * weight,
        a[1] * rest + b[1] * weight,
        a[2] * rest + b[2] * weight,
        a[3] * rest + b[3] * weight,
    )


def iou(a: XYXY, b: XYXY) -> float:
    """Intersection over union of two boxes."""
    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = area(a) + area(b) - shared
    return shared / union if union > 0 else 0.0


def area(xyxy: Sequence[float]) -> float:
    """Pixels of a box; 0 where a side lies beyond its opposite."""
    return max(0.0, xyxy[2] - xyxy[0]) * max(0.0, xyxy[3] - xyxy[1])


def clipped(xyxy: XYXY, width: float, height: float) -> XYXY:
    """The part of a box inside a picture."""
    if xyxy[0] >= 0.0 and xyxy[1] >= 0.0 and xyxy[2] <= width and xyxy[3] <= height:
        return xyxy
    return (
        min(max(xyxy[0], 0.0), width),
        min(max(xyxy[1], 0.0), height),
        min(max(xyxy[2], 0.0), width),
        min(max(xyxy[3], 0.0), height),
    )


def visible_share(xyxy: XYXY, width: float, height: float) -> float:
    """Share of a box that lies inside a picture."""
    whole = area(xyxy)
    return area(clipped(xyxy, width, height)) / whole if whole > 0 else 0.0
