"""Opens the source that the configuration's string describes; the only module that knows every kind."""

import re
from pathlib import Path

from spillover.common.errors import SourceError
from spillover.common.net.addresses import with_password, without_password
from spillover.common.net.reload import read_secret
from spillover.edge.camera.folder import FolderSource, is_image
from spillover.edge.camera.source import Source
from spillover.edge.camera.video import VideoSource
from spillover.edge.config import CameraConfig

_DEVICE = re.compile(r"^(?:/dev/video)?(\d+)$")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def source_of(config: CameraConfig) -> str:
    """`config.source`, with the password that its `password_file` holds now. Raises ConfigError."""
    if not config.password_file:
        return config.source
    path = Path(config.password_file).expanduser()
    return with_password(config.source, read_secret(path, "camera.password_file"))


def is_live(source: str) -> bool:
    """Whether `source` is a camera, which may come later; a file that is not there never comes by itself."""
    return bool(_URL.match(source) or _DEVICE.match(source))


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
