"""Numbers and times of frames, and how far times were wrong that were taken before the clock was set.

A device without a battery for its clock begins in the past, until it hears from a time server. What tells is
the distance of the wall clock from one that nobody sets and that runs on while the device sleeps.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from spillover.common.types import Result

JUMP_S = 5.0
"""A clock that is set by less is only corrected, as clocks are all the time."""
_MAX_KEPT = 64
"""So many settings of the clock are remembered; later ones take the place of the oldest."""


@dataclass(frozen=True, slots=True)
class ClockSet:
    """The clock was set: times of earlier frames are too small by `shift_s`, or too large where it is < 0."""

    shift_s: float
    to_sequence: int
    """The last frame that was captured before; -1 if none was."""
    from_unix_s: float
    """From when on the run had this wrong time, in that time."""
    to_unix_s: float
    """Until when."""


def _wall() -> float:
    return time.time()


def _steady() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _nothing(_found: ClockSet) -> None:
    """Nobody asked to be told."""


class FrameClock:
    """Numbers the frames of one run of the daemon and gives them the wall clock's time. Thread-safe.

    `on_set` is called with `lock` held. Whoever passes a corrected result on holds it too, so that nothing
    that is corrected comes before the news of why. `wall` and `steady` give seconds.
    """

    def __init__(
        self, boot_id: str, wall: Callable[[], float] = _wall, steady: Callable[[], float] = _steady
    ) -> None:
        self.boot_id = boot_id
        self.lock = threading.RLock()
        self.on_set: Callable[[ClockSet], None] = _nothing
        self._wall = wall
        self._steady = steady
        self._next = 0
        self._sets: list[ClockSet] = []
        self._began_unix_s = wall()
        self._offset_s = self._began_unix_s - steady()

    def stamp(self) -> tuple[int, float]:
        """The number of a frame that is captured now, and the time."""
        with self.lock:
            now_unix_s = self.look()
            self._next += 1
            return self._next - 1, now_unix_s

    def time_of(self, sequence: int) -> float:
        """The time now as a frame that has its number is to bear it; `corrected` adds the rest."""
        with self.lock:
            return self.look() - self._shift_s(sequence)

    def look(self) -> float:
        """See whether the clock was set; the time."""
        with self.lock:
            now_unix_s = self._wall()
            offset_s = now_unix_s - self._steady()
            shift_s, self._offset_s = offset_s - self._offset_s, offset_s
            if abs(shift_s) > JUMP_S:
                found = ClockSet(shift_s, self._next - 1, self._began_unix_s, now_unix_s - shift_s)
                self._sets = [*self._sets, found][-_MAX_KEPT:]
                self._began_unix_s += shift_s
                self.on_set(found)
            return now_unix_s

    def corrected(self, result: Result) -> Result:
        """The result with the time at which its frame was really captured, as far as that is known now.

        Those of earlier runs stay as they are: this run does not know how wrong their clock was.
        """
        if not self._sets or result.frame_id.rsplit("-", 2)[1:-1] != [self.boot_id]:
            return result
        shift_s = self._shift_s(result.sequence)
        return replace(result, captured_unix_s=result.captured_unix_s + shift_s) if shift_s else result

    def time_now_known(self, sequence: int, captured_unix_s: float) -> float:
        """When a frame of this run was really captured that has this number and bears this time."""
        return captured_unix_s + self._shift_s(sequence)

    def _shift_s(self, sequence: int) -> float:
        return sum(found.shift_s for found in self._sets if sequence <= found.to_sequence)
