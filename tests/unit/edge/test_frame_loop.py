"""The threads of frames: the model looks at the next one while the one before is decided on."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from spillover.common.types import Frame
from spillover.edge.config import Pace
from spillover.edge.frame_loop import FrameLoop
from spillover.edge.runtime.parts import Ended
from tests.unit.edge.test_camera import CountingSource, camera_of

PATIENCE_S = 30.0


@dataclass
class Steps:
    """A pipeline that notes what happens; the first conclusion waits until a second frame is looked at."""

    told: list[str] = field(default_factory=list)
    second: threading.Event = field(default_factory=threading.Event)
    fails: bool = False

    def look(self, frame: Frame) -> Frame:
        """Note it."""
        if frame.sequence:
            self.second.set()
        return frame

    def conclude(self, looked: Frame) -> None:
        """Note it, or fail."""
        assert self.second.wait(PATIENCE_S)
        if self.fails:
            raise RuntimeError("decision")
        self.told.append(f"concluded {looked.sequence}")


def loop_of(steps: Steps, frames: int, *, fast: bool = False) -> tuple[FrameLoop, list[Ended]]:
    """A loop over one camera with so many frames, and how its threads ended."""
    ended: list[Ended] = []
    device: Any = SimpleNamespace(
        offload=SimpleNamespace(
            uplink=SimpleNamespace(ended=lambda camera: steps.told.append(f"{camera} ended"))
        ),
        reporting=SimpleNamespace(
            events=SimpleNamespace(
                dropped=lambda frame, reason: steps.told.append(f"dropped {frame.sequence}: {reason}")
            )
        ),
    )
    camera = camera_of(CountingSource(frames, live=True), pace=Pace.REALTIME, queue_size=frames)
    camera.run()
    stream: Any = SimpleNamespace(camera_id="cam", camera=camera, pipeline=steps)
    return FrameLoop(device, [stream], lambda: 1.0, ended.append, fast=fast), ended


def run(loop: FrameLoop) -> None:
    """Until its threads have ended."""
    for worker in loop.workers:
        worker.start()
    limit_s = time.monotonic() + PATIENCE_S
    assert all(worker.ended_by(limit_s) for worker in loop.workers)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Say how many cores there are."""
    return lambda count: monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)))


def test_the_model_looks_on_while_a_frame_is_decided_on(cores: Callable[[int], None]) -> None:
    """Results come in the order of the frames, and the camera's end is told after its last one."""
    cores(2)
    loop, ended = loop_of(steps := Steps(), 3)
    run(loop)
    assert steps.told == ["concluded 0", "concluded 1", "concluded 2", "cam ended"]
    assert [one.error for one in ended] == [None, None]


def test_frames_of_a_loop_that_fails_are_counted(cores: Callable[[int], None]) -> None:
    """Where decisions fail the error is reported, and what the model looks at from then on is dropped."""
    cores(2)
    loop, ended = loop_of(steps := Steps(fails=True), 12)
    run(loop)
    assert [str(one.error) for one in ended if one.error] == ["decision"]
    assert steps.told[-1] == "dropped 11: stopped"


@pytest.mark.parametrize(("count", "fast"), [(1, False), (2, True)])
def test_one_core_and_pace_fast_have_one_thread(cores: Callable[[int], None], count: int, fast: bool) -> None:
    """There a second one gains nothing, or would take frames for which there is no room."""
    cores(count)
    loop, _ = loop_of(Steps(), 1, fast=fast)
    assert [worker.name for worker in loop.workers] == ["pipeline"]
