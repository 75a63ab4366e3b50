"""Flow: from two small grey pictures to the motion of the camera and of each box.

Sparse pyramidal Lucas-Kanade (Bouguet 2001) on a grid of points in each box, as in Median Flow (Kalal et al.,
ICPR 2010): medians over the points are robust where a share of them is on something else. The camera's
motion is a partial affine map of points outside the boxes (RANSAC).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from spillover.common.types import FloatArray, Image
from spillover.edge.tracking.values import STILL, CameraMotion, Motion

Grey = npt.NDArray[np.uint8]

SMALL_PIXELS = 384 * 288
"""Pixels of a small picture: half the sides of 768x576; detectors see no more than that either."""
MOST_POINTS = 400
GRID = (2, 5)
"""Fewest and most points a side of a box's grid."""
BACKGROUND = (8, 6)
"""Columns and rows of the points that may show the camera's motion."""
INSIDE = 0.7
"""Share of a box's sides that its grid covers: its edges are background."""
WINDOW = (11, 11)
LEVELS = 2
CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)
MOST_GROWTH = 1.12
"""No object grows or shrinks by more between two frames."""
MOVES = 0.35
"""Small pixels by which a point differs from the camera's motion, so that it counts as moving by itself."""
OWN_SHARE = 0.3
"""Share of such points in a box from which on they alone tell its motion."""
GOOD_ERROR = 25.0
"""Mean difference in grey levels of the windows around a point that was found again."""
LEAST_FOR_GROWTH = 6
"""Points that tell how a box grows."""
FOUND = 0.3
"""Less than this share of a box's points found again: its motion is not measured."""
ALIKE = 0.6
"""Correlation of two thumbnails below which a cut is possible."""
THUMBNAIL = (32, 24)


@dataclass(frozen=True, slots=True, eq=False)
class SmallFrame:
    """The grey levels of a frame, made small."""

    grey: Grey
    captured_s: float
    width: int
    height: int
    thumbnail: FloatArray
    """Its grey levels (pixels,) without their mean, much smaller still."""

    @property
    def scale(self) -> FloatArray:
        """Small pixels for each pixel of the frame (2,), x and y."""
        height, width = self.grey.shape
        return np.array([width / self.width, height / self.height], np.float32)


@dataclass(frozen=True, slots=True)
class Flow:
    """What moved how between two frames, in pixels of the frame."""

    camera: CameraMotion
    motions: tuple[Motion, ...]
    """One a box."""
    cut: bool


def small_frame(image: Image, captured_s: float) -> SmallFrame:
    """A BGR picture (H, W, 3) as at most 384x288 grey pixels, or as many in another shape."""
    height, width = image.shape[:2]
    shrink = min(1.0, math.sqrt(SMALL_PIXELS / (width * height)))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    if width > 3 * size[0]:  # averaging every pixel of a large picture costs more than all the rest
        image = cv2.resize(image, (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_NEAREST)  # type: ignore[assignment]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
    tiny = cv2.resize(grey, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    return SmallFrame(grey, captured_s, width, height, tiny - tiny.mean())


def measure(before: SmallFrame, now: SmallFrame, boxes: Sequence[tuple[float, ...]]) -> Flow:
    """The motion of the camera and of each box (left, top, right, bottom, ...) from one frame to the next."""
    if before.grey.shape != now.grey.shape or (before.width, before.height) != (now.width, now.height):
        return Flow(STILL, tuple(Motion(0.0, 0.0, measured=False) for _ in boxes), cut=True)
    unlike = correlation(before.thumbnail, now.thumbnail) < ALIKE
    if not boxes and not unlike:
        return Flow(STILL, (), cut=False)
    scale = before.scale
    small = np.array([box[:4] for box in boxes], np.float32).reshape(-1, 4) * np.tile(scale, 2)
    background = _background(before, small)
    inside = _grids(before, small)
    points = np.concatenate([background, inside.reshape(-1, 2)])
    moved, found = _found_again(before.grey, now.grey, points)
    camera, share = _camera(background, moved[: len(background)], found[: len(background)])
    if unlike and share < 0.4:
        return Flow(STILL, tuple(Motion(0.0, 0.0, measured=False) for _ in boxes), cut=True)
    after = moved[len(background) :].reshape(inside.shape)
    ok = found[len(background) :].reshape(inside.shape[:2])
    shift, growth, measured = _motions(inside, after, ok, camera)
    x, y = np.float32(1.0) / scale
    whole = CameraMotion(
        _rounded(camera.a), _rounded(camera.b), _rounded(camera.dx * x), _rounded(camera.dy * y)
    )
    motions = [
        Motion(dx, dy, scale, True)
        if there
        else rounded(whole.at((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
        for (dx, dy), scale, there, box in zip(
            (shift / before.scale).tolist(), growth.tolist(), measured.tolist(), boxes, strict=True
        )
    ]
    return Flow(whole, tuple(motions), cut=False)


def correlation(a: FloatArray, b: FloatArray) -> float:
    """Correlation of two thumbnails, -1..1; of two without any contrast 1."""
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else float(not a.any() and not b.any())


def rounded(motion: Motion) -> Motion:
    """The motion in numbers that a log's text and memory hold alike."""
    dx, dy, scale, measured = motion
    return Motion(_rounded(dx), _rounded(dy), _rounded(scale), measured)


def _rounded(value: float) -> float:
    """As float32, rounded before use: so a log's text and memory hold the same number."""
    return float(np.float32(value))


def _found_again(before: Grey, now: Grey, points: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Where points (N, 2) are now (N, 2), and which of them were found again (N,)."""
    if not len(points):
        return points, np.zeros(0, bool)
    moved, status, error = cv2.calcOpticalFlowPyrLK(
        before,
        now,
        points[:, None],
        None,
        winSize=WINDOW,
        maxLevel=LEVELS,
        criteria=CRITERIA,  # type: ignore[call-overload]
    )
    found = (status[:, 0] == 1) & (error[:, 0] < GOOD_ERROR) & np.isfinite(moved[:, 0]).all(axis=1)
    return moved[:, 0], found


def _background(frame: SmallFrame, boxes: FloatArray) -> FloatArray:
    """Points (N, 2) of a grid over the picture that are in no box."""
    height, width = frame.grey.shape
    columns, rows = BACKGROUND
    x = (np.arange(columns, dtype=np.float32) + 0.5) * (width / columns)
    y = (np.arange(rows, dtype=np.float32) + 0.5) * (height / rows)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
    inside = (points[:, None] >= boxes[None, :, :2]) & (points[:, None] <= boxes[None, :, 2:])
    return points[~inside.all(axis=-1).any(axis=-1)]


def _grids(frame: SmallFrame, boxes: FloatArray) -> FloatArray:
    """A grid of points (boxes, points, 2) in each box, in the part of it that the picture shows."""
    fewest, most = GRID
    side = min(most, max(fewest, math.isqrt(MOST_POINTS // max(1, len(boxes)))))
    height, width = frame.grey.shape
    limit = np.array([width - 1, height - 1] * 2, np.float32)
    shown = np.clip(boxes, 0, limit)
    centre, half = (shown[:, :2] + shown[:, 2:]) / 2, (shown[:, 2:] - shown[:, :2]) / 2 * INSIDE
    step = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    offset = np.stack(np.meshgrid(step, step), axis=-1).reshape(-1, 2)
    grids: FloatArray = (centre[:, None] + half[:, None] * offset[None]).astype(np.float32)
    return grids


def _camera(
    points: FloatArray, moved: FloatArray, found: npt.NDArray[np.bool_]
) -> tuple[CameraMotion, float]:
    """The camera's motion in small pixels, and the share of the background points that show it."""
    if found.sum() < 6:
        return STILL, 0.0
    before, after = points[found], moved[found]
    shift = after - before
    median = np.median(shift, axis=0)
    still = np.abs(shift).max(axis=1) < 0.25
    if still.mean() > 0.7:  # a camera that stands: nothing to fit, and no noise of a fit
        return STILL, float(still.sum()) / len(points)
    fitted, inliers = cv2.estimateAffinePartial2D(before, after, method=cv2.RANSAC, ransacReprojThreshold=1.0)
    if inliers is None or not len(inliers):
        return CameraMotion(1.0, 0.0, float(median[0]), float(median[1])), 0.0
    camera = CameraMotion(*(float(fitted[at]) for at in ((0, 0), (1, 0), (0, 2), (1, 2))))
    share = float(inliers.sum()) / len(points)
    if not 0.8 < math.hypot(camera.a, camera.b) < 1.25:
        return CameraMotion(1.0, 0.0, float(median[0]), float(median[1])), share
    return camera, share


def _motions(
    before: FloatArray, after: FloatArray, found: npt.NDArray[np.bool_], camera: CameraMotion
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Of each box its shift (n, 2) in small pixels and growth (n,), from its points (n, k, 2).

    The last array (n,) says of which box enough points were found again for that.
    """
    shift = after - before
    a, b = np.float32(camera.a - 1.0), np.float32(camera.b)
    x, y = before[..., 0], before[..., 1]
    scene = np.stack([a * x - b * y, b * x + a * y], axis=-1) + np.array([camera.dx, camera.dy], np.float32)
    own = found & (np.abs(shift - scene).max(axis=2) > MOVES)
    count = found.sum(axis=1)
    moves = own.sum(axis=1) >= np.maximum(2, OWN_SHARE * count)
    used = np.where(moves[:, None], own, found)
    number = np.maximum(used.sum(axis=1), 1).astype(np.float32)[:, None]
    centre_before, centre_after = (
        (points * used[..., None]).sum(axis=1) / number for points in (before, after)
    )
    reach_before = np.abs(before - centre_before[:, None]).sum(axis=2)
    reach_after = np.abs(after - centre_after[:, None]).sum(axis=2)
    far = used & (reach_before > 1.0)
    growth = _median((reach_after / np.maximum(reach_before, 1e-3))[..., None], far)[:, 0]
    trusted = far.sum(axis=1) >= LEAST_FOR_GROWTH
    growth = np.where(trusted, np.clip(growth, 1 / MOST_GROWTH, MOST_GROWTH), 1.0).astype(np.float32)
    return _median(shift, used), growth, count >= np.maximum(2, FOUND * found.shape[1])


def _median(values: FloatArray, used: npt.NDArray[np.bool_]) -> FloatArray:
    """Median (n, c) over the used ones of values (n, k, c); 0 where none is."""
    ordered = np.sort(np.where(used[..., None], values, np.inf), axis=1)
    count = used.sum(axis=1)
    rows = np.arange(len(values))
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[1] - 1)
    middle = (ordered[rows, low] + ordered[rows, high]) / 2
    median: FloatArray = np.where(count[:, None] > 0, np.nan_to_num(middle, posinf=0.0), 0.0)
    return median
