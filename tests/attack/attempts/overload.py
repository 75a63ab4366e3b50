"""Honest calls, too many of them."""

from tests.attack.messages import INFER, MODEL_INFER, frame, one_row
from tests.attack.suite import Scene, attempt
from tests.attack.world import Kind, Mode

ANSWERED = ("OK", "RESOURCE_EXHAUSTED", "RST_REFUSED_STREAM", "RST_ENHANCE_YOUR_CALM", "DEADLINE_EXCEEDED")
PUT_OFF = (*ANSWERED, "no status yet")


@attempt(Kind(Mode.TOKEN), *PUT_OFF)
def one_device_calls_without_end(scene: Scene) -> None:
    """One device with 60 calls under way at any time."""
    scene.keep_calling(INFER, [(scene.connect(), frame()) for _ in range(2)], 30, scene.of(10, 1))


@attempt(Kind(), *PUT_OFF, direct_only=True)
def sixty_invented_devices(scene: Scene) -> None:
    """Calls in the names of 60 devices that do not exist, one connection for each."""
    names = [f"invented-{number}" for number in range(60)]
    callers = [(scene.connect(), frame(device_id=name)) for name in names]
    scene.keep_calling(INFER, callers, 2, scene.of(10, 1))


@attempt(Kind(), *PUT_OFF, short=False)
def tensors_without_end(scene: Scene) -> None:
    """Small tensors from 40 connections as fast as they are answered."""
    callers = [(scene.connect(), one_row()) for _ in range(40)]
    scene.keep_calling(MODEL_INFER, callers, 8, scene.of(10, 1))
