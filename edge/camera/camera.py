"""The capture thread: reads a source at its frame rate, numbers the frames and notes their capture times."""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Protocol

from spillover.common.errors import SourceError
from spillover.common.log import Throttled
from spillover.common.types import Frame, Image
from spillover.edge.camera.frame_rate import FrameRate, Range
from spillover.edge.camera.source import CameraState, Picture, Source, UnreadablePictureError
from spillover.edge.config import CameraConfig, FrameRateConfig, Pace
from spillover.edge.runtime.frame_clock import FrameClock
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from spillover.edge.runtime.rates import Rate, next_due_s

DEFAULT_FPS = 10.0
"""For sources without a rate of their own, such as a folder of images."""
FPS = "fps"
"""A picture was passed over because `fps` asks for fewer."""
LOOK_UP_S = 1.0
"""How often a long wait for the next frame looks whether the rate has changed."""


class CameraObserver(Protocol):
    """Counts what a camera captures; `edge.telemetry.frame_events.FrameEvents` implements it."""

    def captured(self, camera_id: str) -> None:
        """A frame was captured and numbered."""
        ...

    def dropped(self, frame: Frame, reason: str) -> None:
        """A captured frame was dropped before any stage processed it."""
        ...

    def thinned(self, reason: str) -> None:
        """A picture was passed over, so there is no frame of it."""
        ...

    def unreadable(self) -> None:
        """A picture was damaged, so there is no frame of it."""
        ...

    def camera(self, camera_id: str, state: CameraState, detail: str = "") -> None:
        """A camera's state or the size of its pictures changed."""
        ...


def _nothing() -> None:
    """Nobody waits for frames."""


class Camera:
    """Frames of one source, through a bounded queue.

    `run` is the capture thread's body; the pipeline's thread calls `poll`. Frames take their numbers and
    times from `clock`, which all cameras of a device share. Numbers count every captured frame, dropped ones
    too, so a gap in the results is a drop.

    Without `read_ahead`, at pace `fast`, `poll` reads the source itself and `run` does nothing: reading ahead
    pays only on a second core (on one core it cost 5 % of the frames a second). `monotonic_s` tells when
    pictures come, for the rate of frames.
    """

    def __init__(
        self,
        source: Source,
        config: CameraConfig,
        boot_id: str,
        observer: CameraObserver,
        clock: FrameClock | None = None,
        *,
        read_ahead: bool = True,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._config = config
        self._prefix = f"{config.camera_id}-{boot_id}-"
        self._observer = observer
        self._log = Throttled("camera")
        self._monotonic_s = monotonic_s
        self._fast = config.pace is Pace.FAST
        self._queue: BoundedQueue[Frame] = BoundedQueue(
            config.queue_size, WhenFull.BLOCK if self._fast else WhenFull.DROP_OLDEST
        )
        self._read_ahead = read_ahead or not self._fast
        self._stopping = Event()
        self._clock = clock or FrameClock(boot_id)
        self.captured = 0
        """How many frames were captured so far."""
        self.rate = Rate()
        """How many frames a second are captured."""
        self.thinned: Counter[str] = Counter()
        """How many pictures were passed over so far, by reason."""
        self._frame_rate = FrameRate(_range(config))
        self._on_frame: Callable[[], None] = _nothing
        self._has_ended = False
        self._next_due_s = -math.inf
        self._to_skip = 0 if source.live else config.skip_frames

    @property
    def scene_fps(self) -> float | None:
        """Frames a second that the scene asks for; None where it is not asked, and before the first."""
        return self._frame_rate.per_s

    @property
    def has_ended(self) -> bool:
        """Whether no further frame will come."""
        return self._queue.has_ended if self._read_ahead else self._has_ended

    def call_on_frame(self, ready: Callable[[], None]) -> None:
        """From now on call `ready` after every frame that comes, and at the end; before `run`."""
        self._on_frame = ready

    def run(self) -> None:
        """Read until the source ends, `max_frames` or `stop`, then close the queue. Raises SourceError."""
        if not self._read_ahead:
            return
        try:
            self._skip()
            wait = self._pacer()
            while (frame := self._read(wait)) is not None:
                if (dropped := self._queue.put(frame)) is not None:
                    reason = "stopped" if self._stopping.is_set() else "queue full"
                    self._observer.dropped(dropped, reason)
                self._on_frame()
        finally:
            self._queue.close()
            self._on_frame()

    def poll(self) -> Frame | None:
        """Take the next frame if there is one now; without `read_ahead` read it.

        At pace `fast` a frame counts as captured now: there was no real moment that it could be late for.

        Raises:
            SourceError: without `read_ahead`, if the source is gone.
        """
        if self._read_ahead:
            frame = self._queue.poll()
        else:
            self._skip()
            frame = self._read(lambda: not self._stopping.is_set())
            self._has_ended = frame is None
        if frame is None or not self._fast:
            return frame
        now_unix_s = self._clock.time_of(frame.sequence)
        return replace(frame, captured_monotonic_s=time.monotonic(), captured_unix_s=now_unix_s)

    def reconfigure(self, config: CameraConfig) -> None:
        """Go on with the `fps`, `loop` and `max_frames` of `config`; the rest is as it was. Thread-safe."""
        self._config = config
        self._frame_rate.reconfigure(_range(config))

    def slow_down(self, share: float, reason: str) -> None:
        """From now on make frames of so large a share of the pictures, evenly spread: 1 all, 0 none.

        The others are counted as thinned for `reason`. It holds beside `fps`, and not for a file at pace
        `fast`. Thread-safe.

        Raises:
            ValueError: it is no share.
        """
        self._frame_rate.slow_down(share, reason)

    def stop(self) -> None:
        """End the capture and drop queued frames. Thread-safe; may be called again."""
        self._stopping.set()
        self._queue.close()
        for frame in self._queue.discard():
            self._observer.dropped(frame, "stopped")
        self._on_frame()

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
        config = self._config
        return 1 / (config.fixed_fps or self._source.fps or config.most_fps or DEFAULT_FPS)

    def _skip(self) -> None:
        """Pass over the first frames, before the pace begins. Raises SourceError."""
        while self._to_skip and not self._stopping.is_set():
            self._to_skip -= 1
            self._read_picture()

    def _read(self, wait: Callable[[], bool]) -> Frame | None:
        """The next frame; `wait` is called before each picture. None at the end. Raises SourceError."""
        while wait():
            try:
                picture = None if self._is_through() else self._read_picture()
            except SourceError as error:
                self._report(CameraState.ENDED, str(error))
                raise
            if picture is None:
                break
            if not (reason := self._passed_over(picture.image)):
                return self._frame(picture)
            self.thinned[reason] += 1
            self._observer.thinned(reason)
        if not self._stopping.is_set():
            self._report(CameraState.ENDED)
        return None

    def _frame(self, picture: Picture) -> Frame:
        """The frame of a picture, with its number."""
        if not (self._source.live or self.captured):  # a live source reports its states itself
            height, width = picture.image.shape[:2]
            self._report(CameraState.OK, f"{width}x{height} pixels")
        sequence, now_unix_s = self._clock.stamp()
        self.captured += 1
        self.rate.mark()
        self._observer.captured(self._config.camera_id)
        return Frame(
            image=picture.image,
            frame_id=f"{self._prefix}{sequence}",
            sequence=sequence,
            camera_id=self._config.camera_id,
            captured_monotonic_s=time.monotonic() - picture.read_s,
            captured_unix_s=now_unix_s - picture.read_s,
            source=picture.name or self._place(),
            read_s=picture.read_s,
        )

    def _place(self) -> str:
        """The place of the newest picture of a video file, where frames' numbers no longer tell it."""
        passed_over = self.thinned.total() + self._config.skip_frames - self._to_skip
        return f"#{self.captured - 1 + passed_over}" if passed_over and not self._source.live else ""

    def _is_through(self) -> bool:
        return 0 < self._config.max_frames <= self.captured

    def _report(self, state: CameraState, detail: str = "") -> None:
        self._observer.camera(self._config.camera_id, state, detail)

    def _read_picture(self) -> Picture | None:
        """The next readable picture; with `loop` start again at the end, unless a whole pass gave none."""
        rewound = False
        while not self._stopping.is_set():
            try:
                picture = self._source.read()
            except UnreadablePictureError as error:
                self._observer.unreadable()
                self._log.warning("picture skipped", cause=str(error), error=str(error))
                continue
            if picture is not None or rewound or not self._config.loop:
                return picture
            self._source.rewind()
            rewound = True
        return None

    def _passed_over(self, image: Image) -> str:
        """Why the picture just read gives no frame; empty: it does. A file at pace `fast` gives all."""
        if self._fast and not self._source.live:
            return ""
        return FPS if self._is_early() else self._frame_rate.passed_over(image, self._monotonic_s())

    def _is_early(self) -> bool:
        """Whether to skip this picture, to reduce a live source to `fps` frames a second."""
        fps = self._config.fixed_fps
        if not (self._source.live and fps):
            return False
        now = self._monotonic_s()
        if now < self._next_due_s:
            return True
        self._next_due_s = next_due_s(self._next_due_s, now, 1 / fps)
        return False


def _range(config: CameraConfig) -> Range | None:
    """What the scene may ask for, where it is asked."""
    fps = config.fps
    return Range(fps.min, fps.max) if isinstance(fps, FrameRateConfig) else None
