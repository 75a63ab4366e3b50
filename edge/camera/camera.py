"""The capture thread: reads a source at its frame rate, numbers the frames and notes their capture times."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Protocol

from spillover.common.log import get_logger
from spillover.common.types import Frame
from spillover.edge.camera.source import Picture, Source, UnreadablePictureError
from spillover.edge.config import CameraConfig, Pace
from spillover.edge.runtime.queues import BoundedQueue, WhenFull

_log = get_logger("camera")

DEFAULT_FPS = 10.0
"""For sources without a rate of their own, such as a folder of images."""
LOOK_UP_S = 1.0
"""How often a long wait for the next frame looks whether the rate has changed."""


class CameraObserver(Protocol):
    """Counts what a camera captures; `edge.telemetry.metrics.FrameEvents` implements it."""

    def captured(self) -> None:
        """A frame was captured and numbered."""
        ...

    def dropped(self, frame: Frame, reason: str) -> None:
        """A captured frame was dropped before any stage processed it."""
        ...

    def unreadable(self) -> None:
        """A picture was damaged, so there is no frame of it."""
        ...


class Camera:
    """Frames of one source, through a bounded queue.

    `run` is the capture thread's body; the pipeline's thread calls `next`. Frame numbers count every captured
    frame, dropped ones too, so a gap in the results is a drop.

    Without `read_ahead`, at pace `fast`, `next` reads the source itself and `run` does nothing: reading ahead
    pays only on a second core (on one core it cost 5 % of the frames a second).
    """

    def __init__(
        self,
        source: Source,
        config: CameraConfig,
        boot_id: str,
        observer: CameraObserver,
        *,
        read_ahead: bool = True,
    ) -> None:
        self._source = source
        self._config = config
        self._prefix = f"{config.camera_id}-{boot_id}-"
        self._observer = observer
        self._fast = config.pace is Pace.FAST
        self._queue: BoundedQueue[Frame] = BoundedQueue(
            config.queue_size, WhenFull.BLOCK if self._fast else WhenFull.DROP_OLDEST
        )
        self._read_ahead = read_ahead or not self._fast
        self._stopping = Event()
        self._sequence = 0
        self._next_due_s = -math.inf

    def run(self) -> None:
        """Read until the source ends, `max_frames` or `stop`, then close the queue. Raises SourceError."""
        if not self._read_ahead:
            return
        try:
            wait = self._pacer()
            while wait() and (frame := self._read()) is not None:
                if (dropped := self._queue.put(frame)) is not None:
                    reason = "stopped" if self._stopping.is_set() else "queue full"
                    self._observer.dropped(dropped, reason)
        finally:
            self._queue.close()

    def next(self) -> Frame | None:
        """Wait for the next frame and return it; None when there are no more.

        At pace `fast` a frame counts as captured now: there was no real moment that it could be late for.

        Raises:
            SourceError: without `read_ahead`, if the source is gone.
        """
        frame = self._queue.get() if self._read_ahead else self._read()
        if frame is None or not self._fast:
            return frame
        return replace(frame, captured_monotonic_s=time.monotonic(), captured_unix_s=time.time())

    def reconfigure(self, config: CameraConfig) -> None:
        """Go on with the `fps`, `loop` and `max_frames` of `config`; the rest is as it was. Thread-safe."""
        self._config = config

    def stop(self) -> None:
        """End the capture and drop queued frames. Thread-safe; may be called again."""
        self._stopping.set()
        self._queue.close()
        for frame in self._queue.discard():
            self._observer.dropped(frame, "stopped")

    def _pacer(self) -> Callable[[], bool]:
        """Return a function that waits until the next frame is due and returns False after `stop`.

        A live source sets the pace itself: waiting between its frames would only make them older.
        """
        if self._fast or self._source.live:
            return lambda: not self._stopping.is_set()
        period_s = self._period_s()
        due_s = time.monotonic()

        def wait() -> bool:
            nonlocal due_s, period_s
            while (left_s := due_s - time.monotonic()) > 0 and not self._stopping.is_set():
                self._stopping.wait(min(left_s, LOOK_UP_S))
                if (changed_s := self._period_s()) != period_s:  # by a reload: nothing is made up for
                    due_s, period_s = min(due_s, time.monotonic() + changed_s), changed_s
            due_s += period_s
            return not self._stopping.is_set()

        return wait

    def _period_s(self) -> float:
        """From one picture of a file or folder to the next."""
        return 1 / (self._config.fps or self._source.fps or DEFAULT_FPS)

    def _read(self) -> Frame | None:
        if self._config.max_frames and self._sequence >= self._config.max_frames:
            return None
        picture = self._read_picture()
        if picture is None:
            return None
        sequence = self._sequence
        self._sequence += 1
        self._observer.captured()
        return Frame(
            image=picture.image,
            frame_id=f"{self._prefix}{sequence}",
            sequence=sequence,
            camera_id=self._config.camera_id,
            captured_monotonic_s=time.monotonic() - picture.read_s,
            captured_unix_s=time.time() - picture.read_s,
            source=picture.name,
            read_s=picture.read_s,
        )

    def _read_picture(self) -> Picture | None:
        """The next readable picture; with `loop` start again at the end, unless a whole pass gave none."""
        rewound = False
        while not self._stopping.is_set():
            try:
                picture = self._source.read()
            except UnreadablePictureError as error:
                self._observer.unreadable()
                _log.warning("picture skipped", error=str(error))
                continue
            if picture is not None and self._is_early():
                continue
            if picture is not None or rewound or not self._config.loop:
                return picture
            self._source.rewind()
            rewound = True
        return None

    def _is_early(self) -> bool:
        """Whether to skip this picture, to reduce a live source to `fps` frames a second."""
        fps = self._config.fps
        if not (self._source.live and fps):
            return False
        now = time.monotonic()
        if now < self._next_due_s:
            return True
        period_s = 1 / fps
        due_s = self._next_due_s + period_s
        self._next_due_s = due_s if due_s > now else now + period_s
        return False
