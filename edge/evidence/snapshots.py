"""Chooses the frames that are kept as pictures, and keeps them, on a thread of its own.

The pipeline hands over references alone. A frame is named in its result and its events once it is in the
queue, so a name stands for a picture that is there, is on its way, was lost to the disk (which is counted),
or has made room for newer ones; never for a part of one.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from spillover.common.errors import InvalidInputError
from spillover.common.types import Action, Decision, Prediction, Result
from spillover.edge.config import Occasion
from spillover.edge.evidence.pictures import plain, with_boxes
from spillover.edge.evidence.writer import CHANGED, NOT_ENCODED, QUEUE_FULL, STOPPED, Observer, Writer
from spillover.edge.pipeline import CameraSettings, Look
from spillover.edge.results.delivery import BOXES, SNAPSHOT, EventKind
from spillover.edge.runtime.process import step_back
from spillover.edge.runtime.queues import BoundedQueue, WhenFull

QUEUED_FRAMES = 8
"""Frames that may wait to be encoded: they are raw, so each takes megabytes."""
HELD_BYTES = 8_000_000
"""Pictures of sent frames that wait for the cloud's answer."""
_PRUNE_S = 60.0

KIND, HELD_OUT = "snapshot", "held too many"

Agrees = Callable[[Prediction, Prediction], bool]
"""Whether the edge's and the cloud's answer say the same."""


@dataclass(slots=True, eq=False)
class _Shot:
    """One frame that is kept, or may be once the cloud has answered."""

    look: Look | None
    """None once it is encoded; with no `jpeg` either it is lost."""
    result: Result
    settings: CameraSettings
    wanted: bool
    until_s: float
    jpeg: bytes = b""
    cloud: Prediction | None = None

    @property
    def name(self) -> str:
        return self.result.frame_id + SNAPSHOT


class Snapshots:
    """Keeps pictures of frames. Thread-safe; all but `run` and `stop` never block.

    `current` gives what each camera is processed with now, by its name: a frame of older settings, perhaps
    without a mask that there is now, is not kept. `hold_s` is how long after a frame the cloud's answer to it
    may come. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        occasions: Sequence[Occasion],
        writer: Writer,
        labels: Sequence[str],
        current: Mapping[str, Callable[[], CameraSettings]],
        agrees: Agrees,
        hold_s: float,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._occasions = frozenset(occasions)
        self._writer = writer
        self._labels = labels
        self._current = current
        self._agrees = agrees
        self._hold_s = hold_s
        self._observer = observer
        self._clock = clock
        self._queue: BoundedQueue[_Shot] = BoundedQueue(QUEUED_FRAMES, WhenFull.DROP_NEWEST)
        self._lock = threading.Lock()
        self._held: dict[str, _Shot] = {}
        """By frame: those that a disagreement would have kept, the oldest first."""
        self._newest: Look | None = None

    def look(self, look: Look) -> None:
        """The pipeline has a frame; its events and its result follow."""
        self._newest = look
        decision = look.result.decision
        if self._wants(decision):
            self._take(look, wanted=True)
        elif Occasion.DISAGREEMENTS in self._occasions and _is_sent(decision):
            self._take(look, wanted=False)

    def of_event(self, kind: EventKind, frame_id: str) -> str:
        """The name of the picture of an event's frame; empty where none is kept, as of one that is lost."""
        name, newest = frame_id + SNAPSHOT, self._newest
        wanted = Occasion.EVENTS in self._occasions and kind is not EventKind.LOST
        if wanted and not self._writer.knows(name):
            with self._lock:
                shot = self._held.pop(frame_id, None)
            if shot is not None:
                self._want(shot)
            elif newest is not None and newest.result.frame_id == frame_id:
                self._take(newest, wanted=True)
        return name if self._writer.knows(name) else ""

    def answered(self, frame_id: str, prediction: Prediction) -> None:
        """The cloud has answered; its result follows. Compares both answers, which takes a millisecond."""
        with self._lock:
            shot = self._held.pop(frame_id, None)
        if shot is not None and not self._agrees(shot.result.prediction, prediction):
            shot.cloud = prediction
            self._want(shot)

    def of_result(self, result: Result) -> str:
        """The name of the picture of a result's frame; empty where none is kept."""
        name = result.frame_id + SNAPSHOT
        return name if self._writer.knows(name) else ""

    def run(self) -> None:
        """Encode and write until `close`; the body of the thread."""
        step_back()
        pruned_s = -_PRUNE_S
        while not self._queue.has_ended:
            if self._clock() - pruned_s >= _PRUNE_S:
                pruned_s = self._clock()
                self._writer.attempt(self._writer.store.prune)
            self._queue.wait_for_item(_PRUNE_S)
            if (shot := self._queue.poll()) is not None:
                self._process(shot)

    def close(self) -> None:
        """Take no more; `run` ends when what is queued is written."""
        self._queue.close()

    def give_up(self) -> None:
        """Count as lost what the thread, which hangs, has not written."""
        for shot in self._queue.discard():
            if shot.wanted:
                self._lost(shot, STOPPED)

    def _wants(self, decision: Decision) -> bool:
        is_offload = Occasion.OFFLOADS in self._occasions and _is_sent(decision)
        return is_offload or (Occasion.AUDITS in self._occasions and decision.audit is not None)

    def _take(self, look: Look, *, wanted: bool) -> None:
        shot = _Shot(look, look.result, look.settings, wanted, self._clock() + self._hold_s)
        if wanted:
            self._writer.expect(shot.name)
        else:
            with self._lock:
                self._held[look.result.frame_id] = shot
        self._enqueue(shot)

    def _want(self, shot: _Shot) -> None:
        """Keep a frame that was held; where its encoding is under way, that goes on to the disk.

        One that was lost since it was taken out stays lost.
        """
        with self._lock:
            if shot.look is None and not shot.jpeg:
                return
            self._writer.expect(shot.name)
            shot.wanted = True
            is_encoded = bool(shot.jpeg)
        if is_encoded:
            self._enqueue(shot)

    def _enqueue(self, shot: _Shot) -> None:
        if self._queue.put(shot) is not None:
            self._lost(shot, QUEUE_FULL)

    def _process(self, shot: _Shot) -> None:
        if shot.settings is not self._current[shot.result.camera_id]():
            self._lost(shot, CHANGED)
            return
        if shot.look is not None:
            try:
                jpeg = plain(shot.look.shown().image)
            except InvalidInputError:
                self._lost(shot, NOT_ENCODED)
                return
        else:
            jpeg = shot.jpeg
        with self._lock:
            shot.look, shot.jpeg = None, jpeg
            is_wanted = shot.wanted  # read with the writing above: from now on `_want` queues it again
            shed = self._shed()
        for one in shed:
            self._lost(one, HELD_OUT)
        if is_wanted:
            self._write(shot)

    def _shed(self) -> list[_Shot]:
        """Let go of held frames that no answer comes for any more; give those that there is no room for."""
        now_s = self._clock()
        for frame_id in [frame_id for frame_id, shot in self._held.items() if shot.until_s < now_s]:
            del self._held[frame_id]
        shed, total = list[_Shot](), sum(len(shot.jpeg) for shot in self._held.values())
        while total > HELD_BYTES:
            shed.append(self._held.pop(next(iter(self._held))))
            total -= len(shed[-1].jpeg)
        return shed

    def _write(self, shot: _Shot) -> None:
        result, write = shot.result, self._writer.store.write

        def store() -> None:
            write(shot.name, shot.jpeg)
            write(result.frame_id + BOXES, with_boxes(shot.jpeg, result, shot.cloud, self._labels))

        if why := self._writer.attempt(store):
            self._lost(shot, why)
            return
        self._writer.settled(shot.name)
        self._observer.evidence_stored(KIND, result.camera_id, result.frame_id, shot.name)

    def _lost(self, shot: _Shot, why: str) -> None:
        with self._lock:
            shot.look, shot.jpeg = None, b""
            if self._held.get(shot.result.frame_id) is shot:
                del self._held[shot.result.frame_id]
        self._writer.settled(shot.name)  # after the lock: `_want` cannot expect it again
        self._observer.evidence_lost(KIND, why)


def _is_sent(decision: Decision) -> bool:
    return decision.action in {Action.SEND_FRAME, Action.SEND_FEATURES}
