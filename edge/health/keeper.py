"""The thread that steps the ladder: reads the device every few seconds and has its parts do less, or more."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from spillover.edge.health.ladder import Ladder, Step
from spillover.edge.health.monitor import PERIOD_S
from spillover.edge.health.readings import LadderState, Readings


class Relief(Protocol):
    """A part of the daemon that can do less; must neither block nor raise."""

    def __call__(self, step: Step, cause: str, why: str, /) -> None:
        """From now on do what `step` says, because of `cause`; `why` is for people."""
        ...


class Keeper:
    """Steps the ladder until `stop`. Other threads may ask for its `state`.

    What does less is told by `relieve`, before `run`. `sample` gives the readings and never waits for a disk;
    `on_step` hears of each change, with the step before. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        sample: Callable[[], Readings],
        wall_c: float,
        on_step: Callable[[LadderState, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sample = sample
        self._wall_c = wall_c
        self._reliefs: list[Relief] = []
        self._on_step = on_step
        self._clock = clock
        self._ladder = Ladder()
        self._since_s = clock()
        self._stopping = threading.Event()

    def relieve(self, relief: Relief) -> None:
        """Have one more part do less."""
        self._reliefs.append(relief)

    def run(self) -> None:
        """The body of the thread."""
        while not self._stopping.wait(PERIOD_S):
            self.look()

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    def look(self) -> None:
        """Take one reading and do what follows from it."""
        now_s = self._clock()
        before = self._ladder
        self._ladder = before.after(self._sample(), now_s, self._wall_c)
        if self._ladder.step == before.step:
            return
        self._since_s = now_s
        state = self.state()
        for relief in self._reliefs:
            relief(self._ladder.now, state.cause, f"{state.cause}: {state.reason}")
        self._on_step(state, before.step)

    def state(self) -> LadderState:
        """Where the device stands."""
        ladder = self._ladder
        return LadderState(
            step=ladder.step,
            does=ladder.now.does,
            cause=ladder.cause.value if ladder.cause else "",
            reason=ladder.reason,
            age_s=max(0.0, self._clock() - self._since_s),
        )
