"""Signals for frames without detections: motion in the scene, and objects that were lost a moment ago.

Pure functions; the state is a value that is handed in and out.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from spillover.common.types import Image, Prediction

Thumbnail = npt.NDArray[np.uint8]

SIDE = 64
SAMPLED = 2 * SIDE
"""Pixels a side that a thumbnail is made from: enough against noise, few enough to cost 40 us."""
CHANGED = 20
"""Grey levels from which a pixel of the thumbnail counts as changed."""
LOST_S = 1.0
"""So long after the last box its absence is worth a question."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is remembered of the frames before."""

    thumbnail: Thumbnail | None = None
    boxes_seen_s: float = -np.inf


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a frame shows besides its prediction."""

    motion: float = 0.0
    """Share of the thumbnail's pixels that changed since the frame before."""
    lost_track: bool = False
    """Boxes were reported within the last second, and now none is."""
    empty: bool = False
    """A detector reported no box."""


UNSEEN = Surroundings()
"""What is known of a frame that was not looked at."""


def watch(
    scene: Scene, image: Image, prediction: Prediction, report_threshold: float, now_s: float
) -> tuple[Scene, Surroundings]:
    """Take one frame in; where the task gives no boxes nothing is looked at."""
    boxes = prediction.boxes
    if boxes is None:
        return scene, UNSEEN
    sees = bool((boxes.confidence >= report_threshold).any())
    small = thumbnail(image)
    lost = not sees and now_s - scene.boxes_seen_s <= LOST_S
    surroundings = Surroundings(changed_share(scene.thumbnail, small), lost, not sees)
    return Scene(small, now_s if sees else scene.boxes_seen_s), surroundings


def thumbnail(image: Image) -> Thumbnail:
    """A BGR picture (H, W, 3) as 64 x 64 grey levels: single pixels, then means of 2 x 2."""
    sampled = cv2.resize(image, (SAMPLED, SAMPLED), interpolation=cv2.INTER_NEAREST)
    grey = cv2.cvtColor(sampled, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def changed_share(before: Thumbnail | None, now: Thumbnail) -> float:
    """Share of the pixels that differ by 20 grey levels and more; 0 without a picture before."""
    if before is None:
        return 0.0
    return float(np.count_nonzero(cv2.absdiff(before, now) >= CHANGED)) / now.size
