"""A live source that is opened again when it is lost, and that says how it is.

States: `ok`; `lost`, while nothing can be read; `frozen`, while the very same picture comes again and again,
as from an encoder that hangs (a real sensor has noise in every picture). Both end with a new connection.
"""

import threading
import time
from collections.abc import Callable

import numpy as np

from spillover.common.errors import SourceError
from spillover.common.log import get_logger
from spillover.common.types import Image
from spillover.edge.camera.source import Picture, Source, UnreadablePictureError

_log = get_logger("camera")

PAUSE_MIN_S, PAUSE_MAX_S = 0.5, 10.0
MAX_UNREADABLE = 30
"""So many damaged pictures in a row and the stream is taken for lost."""
_SAMPLE_STEP = 7
"""Every seventh row and column tells whether a picture is the one before."""

OnState = Callable[[str, str], None]
"""Called with a state and what there is to say about it, whenever the state changes."""


class ResilientSource:
    """Behaves as the source that `reopen` gives, and never ends by itself.

    `source` is the first connection. A picture that stays the same for `frozen_after_s` seconds is frozen; 0
    never looks. `interrupt` may be called from any thread, the rest belongs to one.
    """

    live = True

    def __init__(
        self,
        source: Source,
        reopen: Callable[[], Source],
        on_state: OnState,
        frozen_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source: Source | None = source
        self._reopen = reopen
        self._on_state = on_state
        self._frozen_after_s = frozen_after_s
        self._clock = clock
        self._interrupted = threading.Event()
        self._state = ""
        self._pause_s = PAUSE_MIN_S
        self._unreadable = 0
        self._shape: tuple[int, ...] = ()
        self._sample: Image | None = None
        self._changed_s = clock()
        self.fps = source.fps

    def read(self) -> Picture | None:
        """The next picture, however often that takes a new connection; None once interrupted.

        Raises:
            UnreadablePictureError: this one is damaged; read on.
        """
        while not self._interrupted.is_set():
            try:
                source = self._source or self._connect()
                picture = source.read() if source else None
            except UnreadablePictureError as error:
                self._unreadable += 1
                if self._unreadable < MAX_UNREADABLE:
                    raise
                self._lose("lost", str(error))
            except SourceError as error:
                self._lose("lost", str(error))
            else:
                if source is None:
                    break
                if picture is None:
                    self._lose("lost", "the stream ended")
                elif self._looks_alive(picture.image):
                    return picture
        return None

    def rewind(self) -> None:
        """A live source cannot begin again. Raises SourceError."""
        raise SourceError("camera.source: a live source cannot begin again")

    def interrupt(self) -> None:
        """Make `read` return None, now and from now on."""
        self._interrupted.set()

    def close(self) -> None:
        """Let go of the connection."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _connect(self) -> Source | None:
        """A new connection, after a pause; None when interrupted. Raises SourceError."""
        if self._interrupted.wait(self._pause_s):
            return None
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)
        self._source = self._reopen()
        return self._source

    def _lose(self, state: str, why: str) -> None:
        self._say(state, why)
        self._unreadable = 0
        self._sample = None
        self.close()

    def _looks_alive(self, image: Image) -> bool:
        """Note the picture; False when it has been the same for too long."""
        now_s = self._clock()
        sample = image[::_SAMPLE_STEP, ::_SAMPLE_STEP].copy()
        if self._sample is None or not np.array_equal(sample, self._sample):
            was_connected = self._sample is not None
            self._sample, self._changed_s = sample, now_s
            self._unreadable = 0
            # After a freeze the first picture proves nothing; the second one that differs does.
            if was_connected or self._state != "frozen":
                self._pause_s = PAUSE_MIN_S
                self._say("ok", self._note_shape(image))
        elif self._frozen_after_s and now_s - self._changed_s > self._frozen_after_s:
            self._lose("frozen", f"the same picture for {self._frozen_after_s:.0f} s")
            return False
        return True

    def _note_shape(self, image: Image) -> str:
        if image.shape == self._shape:
            return ""
        height, width = image.shape[:2]
        self._shape = image.shape
        self._state = ""  # a changed resolution is told even if all was well before
        return f"{width}x{height} pixels"

    def _say(self, state: str, detail: str) -> None:
        if state != self._state:
            self._state = state
            self._on_state(state, detail)
            _log.info("camera state", state=state, detail=detail)
