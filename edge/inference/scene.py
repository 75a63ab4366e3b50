"""Signals for frames without detections: scene motion and recently lost objects.

Pure functions; callers pass the state in and get the new state back.
"""

from dataclasses import dataclass

import numpy as np

from spillover.common.types import Image, Prediction
from spillover.edge.camera import change
from spillover.edge.camera.change import Thumbnail, changed_share

SIDE = 64
LOST_S = 1.0
"""Seconds after the last box during which its absence counts as a lost object."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """State kept from the frames before."""

    thumbnail: Thumbnail | None = None
    boxes_seen_s: float = -np.inf


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Signals of one frame besides its prediction."""

    motion: float = 0.0
    """Share of the thumbnail's pixels that changed since the previous frame."""
    lost_track: bool = False
    """There were boxes within the last second, and this frame has none."""
    empty: bool = False
    """A detector reported no boxes."""


UNSEEN = Surroundings()
"""Signals of a frame that was not examined."""


def watch(
    scene: Scene, image: Image, prediction: Prediction, report_threshold: float, now_s: float
) -> tuple[Scene, Surroundings]:
    """Update the scene with one frame; frames of tasks without boxes are not examined."""
    boxes = prediction.boxes
    if boxes is None:
        return scene, UNSEEN
    sees = bool((boxes.confidence >= report_threshold).any())
    small = thumbnail(image)
    lost = not sees and now_s - scene.boxes_seen_s <= LOST_S
    surroundings = Surroundings(changed_share(scene.thumbnail, small), lost, not sees)
    return Scene(small, now_s if sees else scene.boxes_seen_s), surroundings


def thumbnail(image: Image) -> Thumbnail:
    """A BGR picture (H, W, 3) as 64 x 64 grey levels, in about 40 us."""
    return change.thumbnail(image, SIDE, SIDE)
