"""The keys of the camera: where frames come from."""

import enum
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from spillover.common.config import Mistake, Section
from spillover.common.net.addresses import takes_password
from spillover.edge.config.events import EventsConfig
from spillover.edge.config.keeping import RedactionConfig
from spillover.edge.config.kinds import Count, Name, NotNegative, Positive, Share, Side

COMMAND = "command"
"""The source that is a program of the user's."""


class Pace(enum.Enum):
    """How frames are taken from the source."""

    REALTIME = "realtime"
    """At the source's rate. If the model is slower, the newest frame is used and drops are counted."""
    FAST = "fast"
    """For files: as fast as the model works, dropping nothing. A frame's time starts when it is taken."""


class PictureFormat(enum.Enum):
    """How pictures are written to a pipe."""

    BGR = "bgr"
    """Raw pixels of three bytes: blue, green, red (ffmpeg: `-f rawvideo -pix_fmt bgr24`)."""
    YUV420 = "yuv420"
    """Raw pixels in half as many bytes, planes one after the other (`-f rawvideo -pix_fmt yuv420p`)."""
    MJPEG = "mjpeg"
    """JPEGs one after the other (`-f mjpeg`), of any size."""


class CommandConfig(Section, frozen=True):
    """A program that writes pictures to its standard output, for source `command`."""

    arguments: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """The program and its arguments; no shell reads them."""
    format: PictureFormat
    """How it writes pictures."""
    width: Side | None = None
    """Width of each picture; required but for `mjpeg`."""
    height: Side | None = None
    """Height of each picture; required but for `mjpeg`."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse raw pixels of no stated size, and halves of them."""
        return (self._size(),)

    def _size(self) -> Iterator[Mistake]:
        if self.format is PictureFormat.MJPEG:
            return
        for key, length in (("width", self.width), ("height", self.height)):
            if length is None:
                yield key, f"is needed for format: {self.format.value}"
            elif self.format is PictureFormat.YUV420 and length % 2:
                yield key, f"must be even for format: yuv420, and is {length}"


class CsiConfig(Section, frozen=True):
    """How rpicam-vid runs, for source `csi`."""

    width: Annotated[int, msgspec.Meta(gt=0, le=16_384, multiple_of=64)] = 640
    """Width of the pictures; a multiple of 64, since rpicam-vid fills rows up to that."""
    height: Annotated[int, msgspec.Meta(gt=0, le=16_384, multiple_of=2)] = 480
    """Height of the pictures; even."""
    fps: Positive = 15.0
    """Pictures a second that the camera takes."""
    arguments: tuple[str, ...] = ()
    """More arguments of rpicam-vid, as in ["--hflip", "--vflip"]."""


class CameraPolicyConfig(Section, frozen=True):
    """What one camera has in place of the device's `policy`; null: the same."""

    send_share: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    """Send about this share of the camera's frames, in place of what the device's `policy` says."""
    threshold: float | None = None
    """Send every frame whose score is at least this, in place of what the device's `policy` says."""
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

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse two keys that both say which scores are sent."""
        return (self._chosen(),)

    def _chosen(self) -> Iterator[Mistake]:
        if self.send_share is not None and self.threshold is not None:
            yield "threshold", "and send_share both say which frames are sent: keep one"

    @property
    def chooses(self) -> bool:
        """Whether it says which scores are sent."""
        return self.send_share is not None or self.threshold is not None


class FrameRateConfig(Section, frozen=True):
    """Frames a second by the scene, for `fps`: few while nothing moves, more the faster it does."""

    min: Positive
    """Frames a second while nothing moves."""
    max: Positive
    """Frames a second at most; a camera that gives fewer gives all of them."""
    refresh_s: NotNegative = 5.0
    """While nothing changes the model looks once in this time, and other frames get its last answer; 0: it
    looks at every frame, as it does where `redaction.classes` hides something."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a highest rate below the lowest."""
        return (self._ordered(),)

    def _ordered(self) -> Iterator[Mistake]:
        if self.max < self.min:
            yield "max", f"must be at least min, which is {self.min:g}, and is {self.max:g}"


class CameraConfig(Section, frozen=True):
    """Where frames come from."""

    source: str
    """A video, image or folder of images, an `rtsp://` or `http://` URL, `/dev/video0` or a device number,
    `csi` (or `csi:1`, `libcamera:1`) for a Pi's own camera, `command` for a program's pictures."""
    password_file: str = ""
    """A file with the password of the user that an URL in `source` names; read at each connection."""
    camera_id: Name = "camera"
    """Name of this camera; every `frame_id` begins with it. Cameras of one device have different names."""
    pace: Pace = Pace.REALTIME
    """How frames are taken from the source; the same for all cameras of a device."""
    fps: Positive | FrameRateConfig | None = None
    """Frames per second, in place of the source's own rate; null: the source's, and 10 for a folder. With
    `min` and `max` the scene says how many, at the source's own pace."""
    loop: bool = False
    """Start again at the end of a file or folder."""
    skip_frames: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Begin behind so many frames of a file or folder; with `loop` they come when it starts again."""
    queue_size: Count = 2
    """Frames that may wait between camera and model."""
    frozen_after_s: NotNegative = 10.0
    """Reconnect a live camera that has sent the same picture for this many seconds; 0: never."""
    max_frames: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Stop after this many frames; 0: no limit."""
    csi: CsiConfig = CsiConfig()
    """How rpicam-vid runs, for source `csi`."""
    command: CommandConfig | None = None
    """The program to run, for source `command`."""
    policy: CameraPolicyConfig | None = None
    """What this camera has in place of the device's `policy`; null: nothing."""
    redaction: RedactionConfig | None = None
    """What is hidden in this camera's pictures, in place of the device's `redaction`; null: the same."""
    events: EventsConfig | None = None
    """Zones and lines of this camera, in place of the device's `events`; null: the same."""

    @property
    def fixed_fps(self) -> float | None:
        """Frames a second in place of the source's; None where the source or the scene says how many."""
        return None if isinstance(self.fps, FrameRateConfig) else self.fps

    @property
    def most_fps(self) -> float | None:
        """Frames a second at most; None: as many as the source gives."""
        return self.fps.max if isinstance(self.fps, FrameRateConfig) else self.fps

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a password that has no place, a command that is not used, and one that is missing."""
        return self._password(), self._command()

    def _password(self) -> Iterator[Mistake]:
        if self.password_file and not takes_password(self.source):
            yield (
                "password_file",
                "camera.source must be an URL with a user and no password, as in rtsp://admin@192.0.2.7/stream",
            )

    def _command(self) -> Iterator[Mistake]:
        if self.source == COMMAND and self.command is None:
            yield "source", f"{COMMAND} needs the key `command`: what to run, and what it writes"
        elif self.command is not None and self.source != COMMAND:
            yield "command", f"is only run for source: {COMMAND}"
