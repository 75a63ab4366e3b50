"""Honest calls, too many of them."""

from tests.attack.messages import INFER, MODEL_INFER, frame, one_row
from tests.attack.suite import Scene, attempt
from tests.attack.wire import Stream
from tests.attack.world import WEAK, Kind, Mode

ANSWERED = ("OK", "RESOURCE_EXHAUSTED", "RST_REFUSED_STREAM", "RST_ENHANCE_YOUR_CALM", "DEADLINE_EXCEEDED")
PUT_OFF = (*ANSWERED, "no status yet")


@attempt(Kind(Mode.TOKEN), *PUT_OFF)
def one_device_calls_without_end(scene: Scene) -> None:
    """One device with 60 calls under way at any time."""
    _keep_calling(scene, [WEAK] * 2, 30, frame)


@attempt(Kind(), *PUT_OFF)
def sixty_invented_devices(scene: Scene) -> None:
    """Calls in the names of 60 devices that do not exist, one connection for each."""
    _keep_calling(
        scene, [f"invented-{number}" for number in range(60)], 2, lambda name: frame(device_id=name)
    )


@attempt(Kind(), *PUT_OFF, short=False)
def tensors_without_end(scene: Scene) -> None:
    """Small tensors from 40 connections as fast as they are answered."""
    _keep_calling(scene, [WEAK] * 40, 8, lambda _: one_row(), MODEL_INFER)


def _keep_calling(scene, names, depth, message, path=INFER):
    """Keep `depth` calls under way for each of the names, on a connection of its own."""
    callers = [
        (scene.connect(name if name == WEAK else WEAK), message(name) if message is not frame else frame())
        for name in names
    ]
    under_way: list[list[Stream]] = [[] for _ in callers]

    def refill() -> bool:
        for (connection, body), streams in zip(callers, under_way, strict=True):
            for stream in [one for one in streams if one.status]:
                streams.remove(stream)
                scene.saw(stream.status)
            while len(streams) < depth and not connection.ending:
                streams.append(connection.call(path, body))
        return False

    scene.pump(refill, scene.of(10, 3))
