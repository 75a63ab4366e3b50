"""The keys of the camera: where frames come from."""

import enum
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from spillover.common.config import Mistake, Section
from spillover.common.net.addresses import takes_password
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
    password_file: str = ""
    """A file with the password of the user that an URL in `source` names; read at each connection."""
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

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a password that has no place."""
        return (self._password(),)

    def _password(self) -> Iterator[Mistake]:
        if self.password_file and not takes_password(self.source):
            yield (
                "password_file",
                "camera.source must be an URL with a user and no password, as in rtsp://admin@192.0.2.7/stream",
            )
