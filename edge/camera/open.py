"""Opens the source that the configuration describes; the only module that knows every kind."""

import re
import shutil
from pathlib import Path

from spillover.common.errors import SourceError
from spillover.common.net.addresses import with_password, without_password
from spillover.common.net.reload import read_secret
from spillover.edge.camera.child import ChildSource
from spillover.edge.camera.folder import FolderSource, is_image
from spillover.edge.camera.pictures import Cutter, JpegPictures, RawPictures, YuvPictures
from spillover.edge.camera.source import Source
from spillover.edge.camera.video import VideoSource
from spillover.edge.config import COMMAND, CameraConfig, CommandConfig, CsiConfig, PictureFormat

_DEVICE = re.compile(r"^(?:/dev/video)?(\d+)$")
_CSI = re.compile(r"^(?:csi|libcamera)(?::(\d+))?$")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_RPICAM = ("rpicam-vid", "libcamera-vid")
"""The program that reads a Pi's own camera; the second is its older name."""


def is_live(source: str) -> bool:
    """Whether `source` is a camera, which may come later; a file that is not there never comes by itself."""
    return source == COMMAND or any(kind.match(source) for kind in (_URL, _DEVICE, _CSI))


def open_camera(config: CameraConfig) -> Source:
    """Open what `camera.source` names, with what else the configuration says of it.

    Raises:
        SourceError: it is not there.
        ConfigError: its `password_file` cannot be read.
    """
    if config.command:
        return _open_command(config.command)
    if csi := _CSI.match(config.source):
        return _open_csi(int(csi[1] or 0), config.csi)
    return open_source(source_of(config))


def source_of(config: CameraConfig) -> str:
    """`config.source`, with the password that its `password_file` holds now. Raises ConfigError."""
    if not config.password_file:
        return config.source
    path = Path(config.password_file).expanduser()
    return with_password(config.source, read_secret(path, "camera.password_file"))


def open_source(source: str) -> Source:
    """Open what `source` names: a URL, a device (`/dev/video0` or `0`), a folder, an image or a video file.

    Raises:
        SourceError: it does not exist or cannot be opened.
    """
    if _URL.match(source):
        return VideoSource(source, live=True)
    path = Path(source).expanduser()
    if device := _DEVICE.match(source):
        return VideoSource(int(device[1]), live=True)
    if not path.exists():
        raise SourceError(f"camera.source: no such file, folder or device: {without_password(source)}")
    if path.is_dir() or is_image(path):
        return FolderSource(path)
    return VideoSource(str(path), live=False)


def _open_csi(number: int, config: CsiConfig) -> Source:
    program = next(filter(shutil.which, _RPICAM), None)
    if program is None:
        raise SourceError(
            f"camera.source: csi needs {_RPICAM[0]}, which is not installed: on Raspberry Pi OS "
            "`apt-get install rpicam-apps-lite`"
        )
    size = [f"--width={config.width}", f"--height={config.height}", f"--framerate={config.fps:g}"]
    command = [program, "--nopreview", "--timeout=0", f"--camera={number}", *size]
    output = ["--codec=yuv420", "--flush", "--output=-"]
    return ChildSource(
        program, [*command, *config.arguments, *output], YuvPictures(config.width, config.height)
    )


def _open_command(config: CommandConfig) -> Source:
    program = config.arguments[0]
    if shutil.which(program) is None:
        raise SourceError(f"camera.command: there is no program {program}")
    return ChildSource(Path(program).name, config.arguments, _cutter(config))


def _cutter(config: CommandConfig) -> Cutter:
    width, height = config.width or 0, config.height or 0
    match config.format:
        case PictureFormat.BGR:
            return RawPictures(width, height)
        case PictureFormat.YUV420:
            return YuvPictures(width, height)
        case PictureFormat.MJPEG:
            return JpegPictures()
