"""The keys of the camera: where frames come from."""

import enum
from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.edge.config.keeping import RedactionConfig
from spillover.edge.config.kinds import Count, Name, NotNegative, Positive, Share


class Pace(enum.Enum):
    """How frames are taken from the source."""

    REALTIME = "realtime"
    """At the source's rate. If the model is slower, the newest frame is used and drops are counted."""
    FAST = "fast"
    """For files: as fast as the model works, dropping nothing. A frame's time starts when it is taken."""


class CameraPolicyConfig(Section, frozen=True):
    """What one camera has in place of the device's `policy`; null: the same."""

    threshold: float | None = None
    """Frames whose score is at least this are sent."""
    band: NotNegative | None = None
    """`near_threshold`: a box is in doubt within this distance of the report threshold."""
    empty_audit_share: Share | None = None
    """Detection: share of the frames without boxes that is sent at random, to find missed objects."""
    motion_gain: float | None = None
    """Detection: added to the score of a frame without reported boxes if 5 % of it moves; less for less."""
    lost_track_gain: float | None = None
    """Detection: added to the score of a frame without reported boxes within a second of one with some."""
    audit_share: Share | None = None
    """Share of all frames that is sent at random, to measure how often the edge is wrong."""


class CameraConfig(Section, frozen=True):
    """Where frames come from."""

    source: str
    """A video, image or folder of images, an `rtsp://` or `http://` URL, `/dev/video0` or a device number."""
    camera_id: Name = "camera"
    """Name of this camera; every `frame_id` begins with it. Cameras of one device have different names."""
    pace: Pace = Pace.REALTIME
    """How frames are taken from the source; the same for all cameras of a device."""
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
    policy: CameraPolicyConfig | None = None
    """What this camera has in place of the device's `policy`; null: nothing."""
    redaction: RedactionConfig | None = None
    """What is hidden in this camera's pictures, in place of the device's `redaction`; null: the same."""
