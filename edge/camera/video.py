"""Sources for video files, capture devices and network streams, all through OpenCV."""

import os
import time
from pathlib import Path

import cv2
import numpy as np

from spillover.common.errors import SourceError
from spillover.common.log import get_logger
from spillover.common.net.addresses import without_password
from spillover.edge.camera.diagnosis import why_no_device, why_no_stream
from spillover.edge.camera.source import Picture

_log = get_logger("camera")

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0
LENGTH_TOLERANCE = 0.02


class VideoSource:
    """A video file (`live` False), a V4L2 device number or an RTSP/HTTP URL (`live` True).

    Raises:
        SourceError: it cannot be opened.
    """

    def __init__(self, where: str | int, *, live: bool) -> None:
        self.live = live
        self._where = where
        self._name = without_password(str(where))
        self._capture = _open(where, live=live)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps: float | None = fps if 0 < fps <= 1000 else None
        self._frames_read = 0

    def read(self) -> Picture | None:
        """Return the next picture; None at the end of a file. Raises SourceError when a live source ends."""
        start = time.perf_counter()
        if self._capture.grab():
            if self.live:  # `grab` waited for the camera
                start = time.perf_counter()
            done, image = self._capture.retrieve()
            if done:
                self._frames_read += 1
                return Picture(image.astype(np.uint8, copy=False), time.perf_counter() - start)
        if self.live:
            raise SourceError(f"camera.source: {self._name} gives no more frames")
        if not self._frames_read:
            raise SourceError(f"camera.source: {self._name} holds no frame that OpenCV can decode")
        self._warn_if_cut_short()
        return None

    def rewind(self) -> None:
        """Reopen the file: seeking to 0 is not exact in every container."""
        if self.live:
            raise SourceError(f"camera.source: {self._name} is live and cannot begin again")
        self._capture.release()
        self._capture = _open(self._where, live=False)
        self._frames_read = 0

    def _warn_if_cut_short(self) -> None:
        """Warn if the file gave clearly fewer frames than it promised; some containers only estimate that."""
        promised = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if self._frames_read < promised * (1 - LENGTH_TOLERANCE) - 1:
            _log.warning(
                "video ended early; is it damaged?",
                source=self._name,
                frames_read=self._frames_read,
                frames_promised=round(promised),
            )

    def close(self) -> None:
        """Release the capture device or file in OpenCV."""
        self._capture.release()


def _open(where: str | int, *, live: bool) -> cv2.VideoCapture:
    if isinstance(where, int):
        capture = cv2.VideoCapture(where)
    else:
        # One decoding thread per stream: each further one costs megabytes, and the model needs the cores.
        options = [cv2.CAP_PROP_N_THREADS, 1]
        if live:
            options += [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(OPEN_TIMEOUT_S * 1000)]
            options += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(READ_TIMEOUT_S * 1000)]
        capture = cv2.VideoCapture(where, cv2.CAP_FFMPEG, options)
    if not capture.isOpened():
        capture.release()
        raise SourceError(f"camera.source: {_why_not(where, live=live)}")
    return capture


def _why_not(where: str | int, *, live: bool) -> str:
    if isinstance(where, int):
        return why_no_device(Path(f"/dev/video{where}"))
    return why_no_stream(where) if live else f"OpenCV cannot open {where!r}"


def quiet_opencv() -> None:
    """Keep OpenCV and FFmpeg from writing to standard error; call before the first capture."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
