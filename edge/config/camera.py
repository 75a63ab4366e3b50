"""The keys of the camera: where frames come from."""

import enum
from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.edge.config.kinds import Count, Name, NotNegative, Positive


class Pace(enum.Enum):
    """How frames are taken from the source."""

    REALTIME = "realtime"
    """At the source's rate. If the model is slower, the newest frame is used and drops are counted."""
    FAST = "fast"
    """For files: as fast as the model works, dropping nothing. A frame's time starts when it is taken."""


class CameraConfig(Section, frozen=True):
    """Where frames come from."""

    source: str
    """A video, image or folder of images, an `rtsp://` or `http://` URL, `/dev/video0` or a device number."""
    camera_id: Name = "camera"
    """Name of this camera; every `frame_id` begins with it."""
    pace: Pace = Pace.REALTIME
    """How frames are taken from the source."""
    fps: Positive | None = None
    """Frames per second, in place of the source's own rate; null: the source's, and 10 for a folder."""
    loop: bool = False
    """Start again at the end of a file or folder."""
    queue_size: Count = 2
    """Frames that may wait between camera and model."""
    frozen_after_s: NotNegative = 10.0
    """Reconnect a live camera that has sent the same picture for this many seconds; 0: never."""
    max_frames: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Stop after this many frames; 0: no limit."""
