"""Passes frames and results from the pipeline to those who look: by reference, and none while nobody does."""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from spillover.common.types import Result
from spillover.edge.pipeline import CameraSettings, Look
from spillover.edge.results.delivery import Event, EventKind
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from spillover.edge.runtime.rates import next_due_s
from spillover.edge.web.mosaic import Size, size_of

FRAMES_PER_S = 5.0
"""Pictures of one camera that are shown a second."""
MAX_VIEWERS = 4
"""Streams of pictures at once; and as many of results."""
KEPT_RESULTS = 256
"""The newest results, for those who ask now and then."""
KEPT_EVENTS = 64
"""The newest events of each kind."""
QUEUE_ITEMS = 64
"""What may wait for one listener; the oldest gives way to the newest."""

OF_FRAMES = frozenset({EventKind.DROPPED, EventKind.SPOOL})
"""Events that may come with every frame: kept for who asks, and not told to listeners."""

_PERIOD_S = 1.0 / FRAMES_PER_S
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a picture that viewers are shown is of: no pixels, so that it may wait for a slow client."""

    size: Size | None
    result: Result


Item = Shown | Result | Event


@dataclass(frozen=True, slots=True)
class Numbered(Generic[T]):
    """Something with its number in this run of the daemon, from 1."""

    number: int
    item: T


class Newest(Generic[T]):
    """The newest `most` of each kind, so that nothing rare is lost to what is frequent. Thread-safe."""

    def __init__(self, most: int, kind_of: Callable[[T], Hashable]) -> None:
        self._most = most
        self._kind_of = kind_of
        self._lock = threading.Lock()
        self._kept: dict[Hashable, deque[Numbered[T]]] = {}
        self._count = 0

    def add(self, item: T) -> None:
        """Keep it, in place of the oldest of its kind if there are too many."""
        with self._lock:
            self._count += 1
            kept = self._kept.setdefault(self._kind_of(item), deque(maxlen=self._most))
            kept.append(Numbered(self._count, item))

    def since(self, number: int) -> list[Numbered[T]]:
        """Those with higher numbers, in order; all of them where `number` is of an earlier run."""
        with self._lock:
            found = [one for kept in self._kept.values() for one in kept]
            last = self._count
        later = [one for one in found if number > last or one.number > number]
        return sorted(later, key=lambda one: one.number)


class Listener:
    """What one client is to be told, in its order, in a queue of `QUEUE_ITEMS`."""

    def __init__(self, cameras: frozenset[str]) -> None:
        self.cameras = cameras
        self.dropped = 0
        """Items that were lost because the client was too slow."""
        self._items: BoundedQueue[Item] = BoundedQueue(QUEUE_ITEMS, WhenFull.DROP_OLDEST)

    def offer(self, item: Item) -> bool:
        """Queue an item; false when that took the place of an older one. Never blocks for long."""
        gone = self._items.put(item)
        is_lost = gone is not None and gone is not item  # itself: all is over
        self.dropped += is_lost
        return not is_lost

    def take(self, timeout_s: float) -> list[Item] | None:
        """What waits, as soon as something does; empty after `timeout_s`, and None when all is over."""
        self._items.wait_for_item(timeout_s)
        return None if self._items.has_ended else self._items.discard()

    def close(self) -> None:
        """Wake who waits, for good."""
        self._items.close()
        self._items.discard()


class Hub:
    """The newest frames, results and events of all cameras. Thread-safe, and telling it never blocks.

    `current` gives what each camera is processed with now, by its name, in their order: a frame of older
    settings, perhaps without a mask that there is now, is shown no more. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        current: Mapping[str, Callable[[], CameraSettings]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cameras = tuple(current)
        self._current = current
        self._clock = clock
        self._changed = threading.Condition()
        self._looks: dict[str, Look] = {}
        self._due_s: dict[str, float] = {}
        self._turn = 0
        self._watchers = 0
        self._viewers = 0
        self._listeners: list[Listener] = []
        self.results: Newest[Result] = Newest(KEPT_RESULTS, lambda _: "result")
        self.events: Newest[Event] = Newest(KEPT_EVENTS, lambda event: event.kind)
        self._dropped = 0
        self._closed = False
        self._paused = ""

    def pause(self, reason: str) -> None:
        """Keep no frames, so that nothing is encoded, because of `reason`; empty: keep them again.

        Results go on. Any thread may call it.
        """
        with self._changed:
            self._paused = reason
            self._looks.clear()
            self._changed.notify_all()

    @property
    def paused(self) -> str:
        """Why no pictures are shown now; empty while they are."""
        return self._paused

    def look(self, look: Look) -> None:
        """The pipeline has a frame: kept if somebody watches and the camera's last one is old enough."""
        if not self._watchers:
            return
        camera_id, now_s = look.result.camera_id, self._clock()
        with self._changed:
            due_s = self._due_s.get(camera_id, now_s)
            if now_s < due_s or not self._watchers or self._paused:
                return
            self._due_s[camera_id] = next_due_s(due_s, now_s, _PERIOD_S)
            self._looks[camera_id] = look
            self._turn += 1
            self._changed.notify_all()
            self._offer(Shown(size_of(look), look.result), camera_id)

    def result(self, result: Result) -> None:
        """There is a result, a first one or a revision."""
        with self._changed:
            self.results.add(result)
            self._offer(result, result.camera_id)

    def event(self, event: Event) -> None:
        """Something has happened, to an object or to the daemon itself."""
        with self._changed:
            self.events.add(event)
            if event.kind not in OF_FRAMES:
                camera_id = event.fields.get("camera_id")
                self._offer(event, camera_id if isinstance(camera_id, str) else None)

    @property
    def results_dropped(self) -> int:
        """Looks, results and events that clients of event streams have lost because they were too slow."""
        return self._dropped

    @property
    def viewers(self) -> int:
        """Streams of pictures now."""
        return self._viewers

    def now_s(self) -> float:
        """The time of the hub's clock."""
        return self._clock()

    def wait(self, after: int, timeout_s: float) -> tuple[int, bool]:
        """Wait for a turn later than `after`: the newest one, and whether the hub is still open."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn > after or self._closed, timeout_s)
            return self._turn, not self._closed

    def looks(self, cameras: Iterable[str]) -> dict[str, Look]:
        """The newest frames of some cameras that may be shown; a camera without one is left out."""
        with self._changed:
            found = {name: self._looks[name] for name in cameras if name in self._looks}
        return {name: look for name, look in found.items() if look.settings is self._current[name]()}

    def take_viewer(self) -> bool:
        """Begin to view; false when there are `MAX_VIEWERS` already. `leave_viewer` must follow."""
        with self._changed:
            if self._closed or self._viewers >= MAX_VIEWERS:
                return False
            self._viewers += 1
            self._watchers += 1
        return True

    def leave_viewer(self) -> None:
        """View no more."""
        with self._changed:
            self._viewers -= 1
            self._leave()

    def listen(self, cameras: Iterable[str]) -> Listener | None:
        """Begin to listen; None when there are `MAX_VIEWERS` already. `leave_listener` must follow."""
        with self._changed:
            if self._closed or len(self._listeners) >= MAX_VIEWERS:
                return None
            listener = Listener(frozenset(cameras))
            self._listeners.append(listener)
            self._watchers += 1
        return listener

    def leave_listener(self, listener: Listener) -> None:
        """Listen no more."""
        with self._changed:
            self._listeners.remove(listener)
            self._leave()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Have frames kept inside the body, for one picture."""
        with self._changed:
            self._watchers += 1
        try:
            yield
        finally:
            with self._changed:
                self._leave()

    def close(self) -> None:
        """End all streams."""
        with self._changed:
            self._closed = True
            for listener in self._listeners:
                listener.close()
            self._changed.notify_all()

    def _leave(self) -> None:
        self._watchers -= 1
        if not self._watchers:
            self._looks.clear()
            self._due_s.clear()

    def _offer(self, item: Item, camera_id: str | None) -> None:
        """Tell those who listen to the camera; what is of none, to all."""
        for listener in self._listeners:
            if (camera_id is None or camera_id in listener.cameras) and not listener.offer(item):
                self._dropped += 1
