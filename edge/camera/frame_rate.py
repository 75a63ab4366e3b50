"""Which pictures of a camera become frames, where it gives more than somebody wants.

How many are wanted follows the scene: what moves is looked at once in the time in which it leaves its place.
The share of a small grey picture that changes from one picture to the next, over the share that differs from
the mean of the last moments (a running average as in Wren et al., "Pfinder", PAMI 1997), is how much of
what moves has left its place; the size of what moves, and whether the camera moves with it, do not matter.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from spillover.common.types import FloatArray, Image
from spillover.edge.camera.change import Thumbnail, changed_share, thumbnail

WIDTH, HEIGHT = 160, 90
"""Of the small grey picture."""
LOOKS_A_MOVE = 1.1
"""Frames for each time that what moves leaves its place."""
MEAN_S = 0.3
"""Time constant of the mean that shows what moves."""
LEAST_MOVING = 0.005
"""Share of the picture that moves at least: less of it raises the rate less, so that noise does not."""
CUT = 0.4
"""Share that changes at once and is no motion, but another scene: that is one frame, and not a rate."""
HALF_LIFE_S = 3.0
"""In which the rate comes halfway down to the lowest."""
LONGEST_S = 1.0
"""Between two pictures; a camera that was away for longer was not watched."""
SCENE = "scene"
"""A picture was passed over because the scene moves too little for it."""
_SMOOTHING = 0.1
"""Weight of the newest interval between two pictures."""
_ROUNDING = 1e-9
"""Three times a third is one."""


class Range(NamedTuple):
    """Frames a second that the scene may ask for."""

    least: float
    most: float


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What is known of a scene after a picture of it."""

    small: Thumbnail
    mean: FloatArray
    """The mean of the last moments, (HEIGHT, WIDTH)."""
    since_s: float
    """When its first picture came."""
    at_s: float
    """When this one came."""
    period_s: float
    """From one picture to the next, smoothed: networks deliver them in bursts."""
    rate: float
    """Frames a second that the scene asks for."""
    is_new: bool
    """The picture becomes a frame whatever the rate: it has nothing of the one before, or there is no mean
    yet that shows how fast things move."""


def watch(before: Seen | None, image: Image, now_s: float, within: Range) -> Seen:
    """The scene after one more picture (H, W, 3) at `now_s`; up at once, down with a half-life."""
    small = thumbnail(image, WIDTH, HEIGHT)
    if before is None:
        return Seen(small, small.astype(np.float32), now_s, now_s, 0.0, within.least, is_new=True)
    passed_s = min(max(now_s - before.at_s, 0.0), LONGEST_S)
    period_s = before.period_s + (_SMOOTHING if before.period_s else 1.0) * (passed_s - before.period_s)
    changed = changed_share(before.small, small)
    moving = changed_share(cv2.convertScaleAbs(before.mean).astype(np.uint8, copy=False), small)
    mean = before.mean + np.float32(1 - np.exp(-passed_s / MEAN_S)) * (small - before.mean)
    is_cut, is_known = changed >= CUT, now_s - before.since_s >= MEAN_S
    rate = within.least + (before.rate - within.least) * 0.5 ** (passed_s / HALF_LIFE_S)
    if period_s and is_known and not is_cut:
        rate = max(rate, LOOKS_A_MOVE * changed / max(moving, LEAST_MOVING) / period_s)
    rate = min(max(rate, within.least), within.most)
    return Seen(small, mean, before.since_s, now_s, period_s, rate, is_new=is_cut or not is_known)


class _Wanted(NamedTuple):
    """One value, so that a thread which sets it and one which reads it need no lock."""

    share: float
    reason: str


class FrameRate:
    """Passes over pictures, evenly spread: the lower of what the scene and somebody else ask for.

    `slow_down` and `reconfigure` may be called on any thread, the rest on one.
    """

    def __init__(self, within: Range | None = None) -> None:
        self._wanted = _Wanted(1.0, "")
        self._within = within
        self._seen: Seen | None = None
        self._credit = 0.0

    @property
    def per_s(self) -> float | None:
        """Frames a second that the scene asks for; None where it is not asked, and before the first."""
        seen = self._seen
        return seen.rate if self._within and seen else None

    def reconfigure(self, within: Range | None) -> None:
        """Ask the scene from now on, within these rates; None: do not."""
        self._within = within

    def slow_down(self, share: float, reason: str) -> None:
        """From now on take so large a share of the pictures: 1 takes all, 0 none.

        Raises:
            ValueError: it is no share.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a share is from 0 to 1, and not {share}")
        self._wanted = _Wanted(share, reason)

    def passed_over(self, image: Image, now_s: float) -> str:
        """Why the picture that came at `now_s` (monotonic) gives no frame; empty: it gives one."""
        share, reason = self._wanted
        if not share:
            return reason
        scene = self._share_of_scene(image, now_s)
        if scene < share:
            share, reason = scene, SCENE
        self._credit += share
        if self._credit < 1 - _ROUNDING:
            return reason
        self._credit = max(0.0, self._credit - 1)
        return ""

    def _share_of_scene(self, image: Image, now_s: float) -> float:
        """The share of the pictures that the scene asks for."""
        within, before = self._within, self._seen
        if within is None:
            return 1.0
        self._seen = seen = watch(before, image, now_s, within)
        return 1.0 if seen.is_new else min(1.0, seen.rate * seen.period_s)
