"""Takes the frames of all cameras, in fair turns, through the model to results, on one thread or two."""

import os
import time
from collections.abc import Callable, Sequence

from spillover.common.errors import ModelError
from spillover.common.types import Frame
from spillover.edge.camera.turns import FairTurns
from spillover.edge.device import Device
from spillover.edge.pipeline import Looked
from spillover.edge.runtime.parts import OnEnd, Worker
from spillover.edge.runtime.process import StallDetector
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from spillover.edge.stream import CameraStream

LOOK_UP_S = 1.0
"""How often a thread that waits looks whether it is to stop."""


class FrameLoop:
    """The threads that frames go through: `workers`, which end once all cameras have ended.

    Where there is a second core, tracks and decisions have a thread of their own, so that the model need not
    wait for them. At pace `fast` one thread does all: there must be room for a frame before it is taken, and
    whether there is shows only once the frame before was sent. `deadline_s` is asked for the deadline.
    """

    def __init__(
        self,
        device: Device,
        streams: Sequence[CameraStream],
        deadline_s: Callable[[], float],
        on_end: OnEnd,
        *,
        fast: bool,
    ) -> None:
        self._device = device
        self._streams = streams
        self._deadline_s = deadline_s
        self._fast = fast
        self._stopping = False
        self._turns = FairTurns([stream.camera for stream in streams], self._camera_ended)
        self._stalls = StallDetector(time.monotonic), StallDetector(time.monotonic)
        self._looked: BoundedQueue[tuple[int, Looked | None]] | None = None
        """By camera the frames that the model has looked at; None after a camera's last one."""
        self.looker = Worker("pipeline", self._look_at_all, on_end)
        self.concluder: Worker | None = None
        """Tracks, decides and answers; None where `looker` does it."""
        if not fast and len(os.sched_getaffinity(0)) > 1:
            self._looked = BoundedQueue(1, WhenFull.BLOCK)
            self.concluder = Worker("decisions", self._conclude_all, on_end)

    @property
    def workers(self) -> Sequence[Worker]:
        """All threads."""
        return [worker for worker in (self.looker, self.concluder) if worker is not None]

    def stop(self) -> None:
        """Wait for nothing any more; the threads end with the cameras."""
        self._stopping = True

    def stop_concluding(self, deadline_s: float) -> bool:
        """Conclude what the model has looked at, and wait for no more: it has ended, or hangs and is left."""
        if self._looked is None or self.concluder is None:
            return True
        self._looked.close()
        return self.concluder.ended_by(deadline_s)

    def hangs(self, limit_s: float) -> bool:
        """Whether one frame has taken longer than that."""
        return any(stall.hangs(limit_s) for stall in self._stalls)

    def _look_at_all(self) -> None:
        """Show the model the frames until the queues of all cameras close."""
        try:
            while True:
                if self._fast:
                    self._wait_for_room()
                if (turn := self._turns.next()) is None:
                    return
                self._look_at(*turn)
        finally:
            if self._looked is not None:
                self._looked.close()

    def _look_at(self, number: int, frame: Frame) -> None:
        pipeline, dropped = self._streams[number].pipeline, self._device.reporting.events.dropped
        try:
            with self._stalls[0].working():
                looked = pipeline.look(frame)
                if self._looked is None:
                    pipeline.conclude(looked)
        except ModelError:  # `GuardedPredictor` has said which
            dropped(frame, "model failed")
            return
        if self._looked is not None and self._looked.put((number, looked)) is not None:
            dropped(frame, "stopped")

    def _conclude_all(self) -> None:
        """Make results of what the model has looked at, until it looks no more."""
        assert self._looked is not None  # noqa: S101 - else nobody runs this
        try:
            while (taken := self._looked.get()) is not None:
                number, looked = taken
                if looked is None:
                    self._device.offload.uplink.ended(self._streams[number].camera_id)
                    continue
                with self._stalls[1].working():
                    self._streams[number].pipeline.conclude(looked)
        finally:
            self._looked.close()

    def _camera_ended(self, number: int) -> None:
        """Tell the uplink, after the camera's last frame."""
        if self._looked is None:
            self._device.offload.uplink.ended(self._streams[number].camera_id)
        else:
            self._looked.put((number, None))

    def _wait_for_room(self) -> None:
        """Back-pressure where no camera sets the pace: a frame's time begins when there is room for it."""
        uplink, outlets = self._device.offload.uplink, self._device.reporting.outlets
        for has_room in (uplink.wait_until_ready, outlets.wait_for_room):
            limit_s = time.monotonic() + self._deadline_s()
            while not self._stopping and (left_s := limit_s - time.monotonic()) > 0:
                if has_room(min(left_s, LOOK_UP_S)):
                    break
