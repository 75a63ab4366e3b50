"""A live source that connects, reconnects when it is lost or frozen, and reports its state.

A stream is lost when it ends or cannot be read, and while it is not there yet. It is frozen when the same
picture arrives repeatedly, pixel for pixel, as from an encoder that hangs: a real sensor has noise in every
picture.
"""

import threading
import time
from collections.abc import Callable

import numpy as np

from spillover.common.errors import SourceError
from spillover.common.types import Image
from spillover.edge.camera.child import ChildSource
from spillover.edge.camera.source import CameraState, Picture, Source, UnreadablePictureError

PAUSE_MIN_S, PAUSE_MAX_S = 0.5, 10.0
MAX_UNREADABLE = 30
"""After so many damaged pictures in a row the stream counts as lost."""
MAX_CAUSES = 5
"""So many different causes are reported of one loss: the second try may know more than the first."""
_SAMPLE_STEP = 7
"""Two pictures count as the same if every seventh pixel of every seventh row is."""

OnState = Callable[[CameraState, str], None]
"""Called with a state and a detail to read, whenever the state, its cause or the pictures' size changes."""


class ResilientSource:
    """A live source that `connect` opens as often as needed, so that it never ends by itself.

    `source` is a connection that is there already; without one `read` makes the first. `frozen_after_s` is
    how many seconds a picture may stay the same; 0 turns that check off. `interrupt` is thread-safe; one
    thread calls the rest.
    """

    live = True

    def __init__(
        self,
        connect: Callable[[], Source],
        on_state: OnState,
        frozen_after_s: float,
        clock: Callable[[], float] = time.monotonic,
        source: Source | None = None,
    ) -> None:
        self._source = source
        self._open = connect
        self._on_state = on_state
        self._frozen_after_s = frozen_after_s
        self._clock = clock
        self._interrupted = threading.Event()
        self._state: CameraState | None = None
        self._causes: set[str] = set()
        self._pause_s = 0.0
        self._unreadable = 0
        self._shape: tuple[int, ...] = ()
        self._sample: Image | None = None
        self._changed_s = clock()

    @property
    def fps(self) -> float | None:
        """The rate that the connection states, if there is one and it does."""
        return self._source.fps if self._source else None

    def read(self) -> Picture | None:
        """Return the next picture, reconnecting as often as that takes; None after `interrupt`.

        Raises:
            UnreadablePictureError: this picture is damaged; read on.
        """
        while not self._interrupted.is_set():
            try:
                source = self._source or self._connect()
                picture = source.read() if source else None
            except UnreadablePictureError as error:
                self._unreadable += 1
                if self._unreadable < MAX_UNREADABLE:
                    raise
                self._disconnect(CameraState.LOST, str(error))
            except SourceError as error:
                self._disconnect(CameraState.LOST, str(error))
            else:
                if source is None:
                    break
                if picture is None:
                    self._disconnect(CameraState.LOST, "the stream ended")
                elif self._is_frozen(picture.image):
                    detail = f"the same picture for {self._frozen_after_s:.0f} s"
                    self._disconnect(CameraState.FROZEN, detail)
                else:
                    return picture
        return None

    def rewind(self) -> None:
        """Raise SourceError: a live source cannot start again."""
        raise SourceError("camera.source: a live source cannot begin again")

    def reconfigure(self, frozen_after_s: float) -> None:
        """Wait so long for another picture from now on. Thread-safe."""
        self._frozen_after_s = frozen_after_s

    def interrupt(self) -> None:
        """Make `read` return None from now on, and at once where it waits for a child process."""
        self._interrupted.set()
        if isinstance(source := self._source, ChildSource):
            source.interrupt()

    def close(self) -> None:
        """Close the connection to the source."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _connect(self) -> Source | None:
        """Connect, after a pause but for the first time; None when interrupted. Raises SourceError."""
        if self._interrupted.wait(self._pause_s):
            return None
        self._pause_s = min(max(PAUSE_MIN_S, 2 * self._pause_s), PAUSE_MAX_S)
        self._source = self._open()
        return None if self._interrupted.is_set() else self._source

    def _disconnect(self, state: CameraState, why: str) -> None:
        if state is not self._state:
            self._causes.clear()
        is_news = why not in self._causes and len(self._causes) < MAX_CAUSES
        if is_news and not self._interrupted.is_set():
            self._causes.add(why)
            self._report(state, why)
        self._pause_s = max(PAUSE_MIN_S, self._pause_s)
        self._unreadable = 0
        self._sample = None
        self.close()

    def _is_frozen(self, image: Image) -> bool:
        """Compare the picture with the one before; whether nothing has changed for too long."""
        now_s = self._clock()
        sample = image[::_SAMPLE_STEP, ::_SAMPLE_STEP].copy()
        if self._sample is not None and np.array_equal(sample, self._sample):
            return 0 < self._frozen_after_s < now_s - self._changed_s
        is_first = self._sample is None
        self._sample, self._changed_s = sample, now_s
        self._unreadable = 0
        # After a freeze the first picture proves nothing; the second one that differs does.
        if not (is_first and self._state is CameraState.FROZEN):
            self._pause_s = PAUSE_MIN_S
            self._report_ok(image)
        return False

    def _report_ok(self, image: Image) -> None:
        """Report `ok` after another state, or with the size of the pictures when that has changed."""
        if image.shape != self._shape:
            self._shape = image.shape
            height, width = image.shape[:2]
            self._report(CameraState.OK, f"{width}x{height} pixels")
        elif self._state is not CameraState.OK:
            self._report(CameraState.OK)

    def _report(self, state: CameraState, detail: str = "") -> None:
        self._state = state
        self._on_state(state, detail)
