"""Memory by answers: callers that ask and do not read."""

import numpy as np

from tests.attack.attempts.bodies import HELD
from tests.attack.messages import MODEL_INFER, MODEL_STREAM, WATCH, tensors
from tests.attack.suite import STILL_OPEN, Scene, attempt
from tests.attack.world import STRANGER, WIDE, Kind, Mode
from tests.support.h2 import framed


@attempt(Kind(Mode.TOKEN), *HELD, "OK")
def unread_answers(scene: Scene) -> None:
    """Answers of 8 MB to ModelInfer that are never read (window 0), on two connections."""
    message = tensors("wide", np.ones((1, WIDE), np.float32))
    connections = [scene.connect(window=0, reads=False) for _ in range(2)]
    streams = [one.call(MODEL_INFER, message) for _ in range(scene.of(50, 15)) for one in connections]
    scene.hold(scene.of(25, 3))
    scene.saw_all(streams)


@attempt(Kind(Mode.TOKEN), *HELD, "OK", short=False)
def answers_read_byte_by_byte(scene: Scene) -> None:
    """Answers of 8 MB that are read a few bytes a second."""
    message = tensors("wide", np.ones((1, WIDE), np.float32))
    connections = [scene.connect(window=64, reads=True) for _ in range(4)]
    streams = [one.call(MODEL_INFER, message) for _ in range(scene.of(10, 4)) for one in connections]
    scene.hold(scene.of(25, 3))
    scene.saw_all(streams)


@attempt(Kind(Mode.TOKEN), *HELD, "OK")
def unread_streams(scene: Scene) -> None:
    """ModelStreamInfer with answers of 8 MB that are never read, six streams."""
    message = framed(tensors("wide", np.ones((1, WIDE), np.float32)))
    connections = [scene.connect(window=0, reads=False) for _ in range(2)]
    streams = [(one, one.open(MODEL_STREAM)) for one in connections for _ in range(3)]
    for connection, stream in streams:
        for _ in range(scene.of(20, 6)):
            connection.data(stream, message)
    scene.hold(scene.of(20, 2))
    scene.saw_all(stream for _, stream in streams)


@attempt(Kind(Mode.TOKEN), *HELD, "OK")
def watches(scene: Scene) -> None:
    """Thousands of Health.Watch, which everybody may call, 120 on a connection."""
    connections = scene.connect_many(scene.of(100, 15), STRANGER)
    streams = []
    for connection in connections:
        for _ in range(120):
            streams.append(connection.open(WATCH))
            connection.data(streams[-1], framed(b""), end=True)
        scene.pump(limit_s=0.01)
    scene.hold(scene.of(10, 1))
    scene.saw_all(streams)


@attempt(Kind(), STILL_OPEN, *HELD, "OK", short=False)
def watches_that_are_not_read(scene: Scene) -> None:
    """Health.Watch on connections whose window is shut."""
    connections = [scene.connect(STRANGER, window=0, reads=False) for _ in range(5)]
    streams = [one.call(WATCH, b"") for one in connections for _ in range(scene.of(120, 60))]
    scene.hold(scene.of(8, 1))
    scene.saw_all(streams)
