"""Makes clips of events: what a camera saw before and after, from a ring of encoded pictures.

Sources give decoded pictures (OpenCV), and what is to be hidden must be hidden, so a clip is made of the
frames as they may be shown, whatever codec the source has. Of each camera a few frames a second are kept as
JPEG, which costs a third of what H.264 costs in time and needs no codec in the daemon. The clip itself is
made by a process of low priority, which begins with the event and gets pictures as they come.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from spillover.common.errors import InvalidInputError, UnavailableError
from spillover.common.images import encode_jpeg
from spillover.common.log import get_logger
from spillover.edge.config import ClipConfig
from spillover.edge.evidence.child import ClipEncoder, clip_encoder
from spillover.edge.evidence.ring import Reader, Ring
from spillover.edge.evidence.writer import CHANGED, NOT_ENCODED, QUEUE_FULL, STOPPED, Observer, Writer
from spillover.edge.pipeline import CameraSettings, Look
from spillover.edge.results.delivery import CLIP, EventKind
from spillover.edge.runtime.process import step_back
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from spillover.edge.runtime.rates import next_due_s

_log = get_logger("evidence")

KIND, FRAME = "clip", "clip_frame"
ENCODERS = 2
"""Clips that are made at the same time; each process takes some 70 MB."""
WAITING_CLIPS = 4
"""Clips that wait for one of them; their pictures stay in the ring, as far as there is room."""
LONGEST_S = 60.0
"""A clip that further events prolong ends so long after the first."""
QUALITY, LONGEST_SIDE = 80, 1280
_QUEUED_FRAMES = 4
"""Frames that wait to be encoded: they are raw, so each takes megabytes."""
_LOOK_S = 0.5
_LATE_S = 3.0
"""So late frames may come out of the pipeline; a clip whose camera gives none ends then."""
_NAMED_EVENTS = 1024
"""Frames whose events are known to be in a clip, for events that are settled later."""
MEMORY, ENCODER_FAILED = "memory full", "encoder failed"


@dataclass(slots=True, eq=False)
class _Clip:
    """One clip. Guarded by the lock of `Clips`, but for what its thread alone changes."""

    camera_id: str
    frame_id: str
    settings: CameraSettings
    reader: Reader
    until_s: float
    last_s: float
    """It is prolonged up to here."""
    is_over: bool = False
    """No more pictures are taken."""

    @property
    def name(self) -> str:
        return self.frame_id + CLIP


class Clips:
    """Clips of all cameras. Thread-safe; `look` and `of_event` never block.

    `current` gives what each camera is processed with now, by its name. `clock` gives monotonic seconds, as
    the frames' times of capture.
    """

    def __init__(
        self,
        config: ClipConfig,
        writer: Writer,
        current: Mapping[str, Callable[[], CameraSettings]],
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._writer = writer
        self._current = current
        self._observer = observer
        self._clock = clock
        share = int(config.memory_mb * 1e6 / len(current))
        self._rings = {
            name: Ring(config.before_s, share, lambda: observer.evidence_lost(FRAME, MEMORY))
            for name in current
        }
        self._frames: BoundedQueue[Look] = BoundedQueue(_QUEUED_FRAMES, WhenFull.DROP_NEWEST)
        self._clips: BoundedQueue[_Clip] = BoundedQueue(WAITING_CLIPS, WhenFull.DROP_NEWEST)
        self._due_s: dict[str, float] = {}
        self._newest: Look | None = None
        self._lock = threading.Lock()
        self._open: dict[str, _Clip] = {}
        """By camera: the last one, while it is made."""
        self._named: dict[str, str] = {}
        """By frame: the clip of its events."""
        self._encoders: set[ClipEncoder] = set()
        self._given_up = False

    @property
    def ring_bytes(self) -> int:
        """What the rings take."""
        return sum(ring.total_bytes for ring in self._rings.values())

    def look(self, look: Look) -> None:
        """The pipeline has a frame; its events follow."""
        self._newest = look
        camera_id, at_s = look.result.camera_id, look.job.frame.captured_monotonic_s
        due_s = self._due_s.get(camera_id, at_s)
        if at_s < due_s:
            return
        self._due_s[camera_id] = next_due_s(due_s, at_s, 1 / self._config.fps)
        if self._frames.put(look) is not None:
            self._observer.evidence_lost(FRAME, QUEUE_FULL)

    def of_event(self, kind: EventKind, frame_id: str) -> str:
        """The name of the clip of an event; empty where there is none, as of an object that is lost."""
        with self._lock:
            name = self._named.get(frame_id, "")
            newest = self._newest
            if not name and newest and newest.result.frame_id == frame_id and kind is not EventKind.LOST:
                name = self._begin(newest)
        return name if name and self._writer.knows(name) else ""

    def run(self) -> None:
        """Fill the rings until `close`; the body of a thread."""
        step_back()
        while (look := self._frames.get()) is not None:
            camera_id = look.result.camera_id
            if look.settings is not self._current[camera_id]():
                self._observer.evidence_lost(FRAME, CHANGED)
                continue
            try:
                jpeg = encode_jpeg(look.shown().image, QUALITY, LONGEST_SIDE).data
            except InvalidInputError:
                self._observer.evidence_lost(FRAME, NOT_ENCODED)
                continue
            self._rings[camera_id].add(look.job.frame.captured_monotonic_s, look.settings, jpeg)
        for ring in self._rings.values():
            ring.close()

    def make(self) -> None:
        """Make clips until `close`; the body of each of `ENCODERS` threads."""
        step_back()
        while (clip := self._clips.get()) is not None:
            why = STOPPED if self._given_up else self._make(clip)
            with self._lock:
                if self._open.get(clip.camera_id) is clip:
                    del self._open[clip.camera_id]
            self._rings[clip.camera_id].leave(clip.reader)
            self._writer.settled(clip.name)
            if why:
                self._observer.evidence_lost(KIND, why)
            else:
                self._observer.evidence_stored(KIND, clip.camera_id, clip.frame_id, clip.name)

    def close(self) -> None:
        """Take no more; clips end with what there is."""
        self._frames.close()
        self._clips.close()

    def give_up(self) -> None:
        """Kill what makes clips: they are lost."""
        self._given_up = True
        with self._lock:
            encoders = list(self._encoders)
        for encoder in encoders:
            encoder.kill()

    def _begin(self, look: Look) -> str:
        """The name of a clip with this frame in it, an old or a new one; empty where there is no room."""
        result, at_s = look.result, look.job.frame.captured_monotonic_s
        until_s = at_s + self._config.after_s
        clip = self._open.get(result.camera_id)
        goes_on = clip and not clip.is_over and at_s <= clip.until_s and clip.settings is look.settings
        if clip and goes_on and until_s <= clip.last_s:
            clip.until_s = until_s
        else:
            reader = Reader(at_s - self._config.before_s)
            clip = _Clip(
                result.camera_id,
                result.frame_id,
                look.settings,
                reader,
                until_s,
                at_s + max(LONGEST_S, self._config.after_s),
            )
            self._writer.expect(clip.name)
            self._rings[result.camera_id].join(reader)
            if self._clips.put(clip) is not None:
                self._rings[result.camera_id].leave(reader)
                self._writer.settled(clip.name)
                self._observer.evidence_lost(KIND, QUEUE_FULL)
                return ""
            self._open[result.camera_id] = clip
        self._named[result.frame_id] = clip.name
        if len(self._named) > _NAMED_EVENTS:
            del self._named[next(iter(self._named))]
        return clip.name

    def _make(self, clip: _Clip) -> str:
        """Make and store a clip; why it is lost."""
        try:
            with clip_encoder() as encoder:
                with self._lock:
                    self._encoders.add(encoder)
                try:
                    for at_s, jpeg in self._pictures(clip):
                        encoder.feed(at_s, jpeg)
                    data = encoder.finish()
                finally:
                    with self._lock:
                        self._encoders.discard(encoder)
        except UnavailableError as error:
            if self._given_up:
                return STOPPED
            # A change may empty the ring before a picture is read, and of no picture no clip can be made.
            if self._is_changed(clip):
                return CHANGED
            _log.error("no clip", frame=clip.frame_id, error=str(error))
            return ENCODER_FAILED
        if self._is_changed(clip):
            return CHANGED
        return self._writer.attempt(lambda: self._writer.store.write(clip.name, data))

    def _is_changed(self, clip: _Clip) -> bool:
        """The camera's frames are processed otherwise now."""
        return clip.settings is not self._current[clip.camera_id]()

    def _pictures(self, clip: _Clip) -> Iterator[tuple[float, bytes]]:
        """The pictures of a clip as they come, with their times since the first one."""
        ring, first_s = self._rings[clip.camera_id], None
        while True:
            picture = ring.read(clip.reader, _LOOK_S)
            with self._lock:
                if picture is None:
                    clip.is_over = ring.is_closed or self._clock() > clip.until_s + _LATE_S
                else:
                    clip.is_over = picture.at_s > clip.until_s or picture.settings is not clip.settings
                if clip.is_over:
                    return
            if picture is not None:
                first_s = picture.at_s if first_s is None else first_s
                yield picture.at_s - first_s, picture.jpeg
