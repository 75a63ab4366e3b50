"""Chooses the frames that are kept as pictures, and keeps them, on a thread of its own.

The pipeline hands over references alone. A frame is named in its result and its events once it is in the
queue, so a name stands for a picture that is there, is on its way, was lost to the disk (which is counted),
or has made room for newer ones; never for a part of one.
"""

import errno
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from spillover.common.errors import InUseError, InvalidInputError
from spillover.common.log import get_logger
from spillover.common.types import Action, AnsweredBy, Decision, Prediction, Result
from spillover.edge.config import Occasion
from spillover.edge.evidence.pictures import plain, with_boxes
from spillover.edge.evidence.store import BOXES, SNAPSHOT, Store
from spillover.edge.pipeline import CameraSettings, Look
from spillover.edge.results.delivery import EventKind
from spillover.edge.runtime.process import step_back
from spillover.edge.runtime.queues import BoundedQueue, WhenFull

_log = get_logger("evidence")

QUEUED_FRAMES = 8
"""Frames that may wait to be encoded: they are raw, so each takes megabytes."""
HELD_BYTES = 8_000_000
"""Pictures of sent frames that wait for the cloud's answer."""
_PRUNE_S = 60.0

KIND = "snapshot"
QUEUE_FULL, NO_ROOM, WRITE_FAILED = "queue full", "disk full", "write failed"
CHANGED, NOT_ENCODED, HELD_OUT, STOPPED = "settings changed", "not encoded", "held too many", "stopped"

Agrees = Callable[[Prediction, Prediction], bool]
"""Whether the edge's and the cloud's answer say the same."""


class Observer(Protocol):
    """Hears what becomes of evidence."""

    def evidence_stored(self, kind: str, camera_id: str, frame_id: str, name: str) -> None:
        """It is on the disk, whole."""
        ...

    def evidence_lost(self, kind: str, reason: str) -> None:
        """It was wanted, and will not be there."""
        ...


@dataclass(slots=True, eq=False)
class _Shot:
    """One frame that is kept, or may be once the cloud has answered."""

    look: Look | None
    """None once it is encoded."""
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
        store: Store,
        labels: Sequence[str],
        current: Mapping[str, Callable[[], CameraSettings]],
        agrees: Agrees,
        hold_s: float,
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._occasions = frozenset(occasions)
        self._store = store
        self._labels = labels
        self._current = current
        self._agrees = agrees
        self._hold_s = hold_s
        self._observer = observer
        self._clock = clock
        self._queue: BoundedQueue[_Shot] = BoundedQueue(QUEUED_FRAMES, WhenFull.DROP_NEWEST)
        self._lock = threading.Lock()
        self._coming: set[str] = set()
        """Names of pictures that are wanted and not on the disk yet."""
        self._held: dict[str, _Shot] = {}
        """By frame: those that a disagreement would have kept, the oldest first."""
        self._newest: Look | None = None
        self._failure = ""

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
        if wanted and not self._is_there(name):
            with self._lock:
                shot = self._held.pop(frame_id, None)
            if shot is not None:
                self._want(shot)
            elif newest is not None and newest.result.frame_id == frame_id:
                self._take(newest, wanted=True)
        return name if self._is_there(name) else ""

    def of_result(self, result: Result) -> str:
        """The name of the picture of a result's frame; empty where none is kept."""
        if result.answered_by is AnsweredBy.CLOUD:
            with self._lock:
                shot = self._held.pop(result.frame_id, None)
            if shot is not None and not self._agrees(shot.result.prediction, result.prediction):
                shot.cloud = result.prediction
                self._want(shot)
        name = result.frame_id + SNAPSHOT
        return name if self._is_there(name) else ""

    def run(self) -> None:
        """Encode and write until `close`; the body of the thread."""
        step_back()
        pruned_s = -_PRUNE_S
        while not self._queue.has_ended:
            if self._clock() - pruned_s >= _PRUNE_S:
                pruned_s = self._clock()
                self._attempt(self._store.prune)
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

    def _is_there(self, name: str) -> bool:
        return name in self._coming or name in self._store

    def _take(self, look: Look, *, wanted: bool) -> None:
        shot = _Shot(look, look.result, look.settings, wanted, self._clock() + self._hold_s)
        with self._lock:
            if wanted:
                self._coming.add(shot.name)
            else:
                self._held[look.result.frame_id] = shot
        self._enqueue(shot)

    def _want(self, shot: _Shot) -> None:
        """Keep a frame that was held; where its encoding is under way, that goes on to the disk."""
        with self._lock:
            shot.wanted = True
            self._coming.add(shot.name)
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
        result = shot.result

        def store() -> None:
            self._store.write(shot.name, shot.jpeg)
            drawn = with_boxes(shot.jpeg, result, shot.cloud, self._labels)
            self._store.write(result.frame_id + BOXES, drawn)

        if why := self._attempt(store):
            self._lost(shot, why)
            return
        with self._lock:
            self._coming.discard(shot.name)
        self._observer.evidence_stored(KIND, result.camera_id, result.frame_id, shot.name)

    def _attempt(self, work: Callable[[], None]) -> str:
        """Do what needs the disk; why it failed, which is logged once for each reason in a row."""
        try:
            work()
        except (OSError, InUseError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if self._failure != why:
                _log.error("evidence is lost", folder=str(self._store.folder), error=why)
            self._failure = why
            is_full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
            return NO_ROOM if is_full else WRITE_FAILED
        self._failure = ""
        return ""

    def _lost(self, shot: _Shot, why: str) -> None:
        with self._lock:
            self._coming.discard(shot.name)
            if self._held.get(shot.result.frame_id) is shot:
                del self._held[shot.result.frame_id]
        self._observer.evidence_lost(KIND, why)


def _is_sent(decision: Decision) -> bool:
    return decision.action in {Action.SEND_FRAME, Action.SEND_FEATURES}
