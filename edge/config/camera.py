"""Where frames come from."""

import enum
from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.edge.config.kinds import Count, Name, NotNegative, Positive


class Pace(enum.Enum):
    """How frames are taken from a source.

    REALTIME: at the camera's rate; where the model is slower, the newest frame wins and drops are counted.
    FAST: as fast as they can be worked off, none dropped; a frame counts as captured when it is taken.
    """

    REALTIME = "realtime"
    FAST = "fast"


class CameraConfig(Section, frozen=True):
    """Where frames come from."""

    source: str
    """A video file, an image file, a folder of images, a URL, `/dev/video0` or a device number."""
    camera_id: Name = "camera"
    pace: Pace = Pace.REALTIME
    fps: Positive | None = None
    """Overrides the rate that the source states; a folder states none and is played at 10."""
    loop: bool = False
    queue_size: Count = 2
    frozen_after_s: NotNegative = 10.0
    """A live camera that gives the very same picture for so long is connected anew; 0 never looks."""
    max_frames: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Stop after so many frames; 0 is no limit."""
