"""ModelStreamInfer: damaged messages among good ones, and requests without end."""

from tests.attack.attempts.bodies import HELD
from tests.attack.messages import MODEL_STREAM, one_row
from tests.attack.suite import Scene, attempt
from tests.attack.world import Kind, Mode
from tests.support.h2 import framed

GOOD = framed(one_row())
GARBAGE = framed(b"\xff\xff")


@attempt(Kind(), "INVALID_ARGUMENT")
def garbage_after_good_on_a_stream(scene: Scene) -> None:
    """A good message, then one that is none, then a good one: the stream ends with its status, each time."""
    streams = []
    for bodies in ((GOOD + GARBAGE,), (GOOD, GARBAGE), (GOOD + GARBAGE + GOOD,), (GARBAGE,)):
        for _ in range(scene.of(12, 3)):
            connection = scene.connect()
            stream = connection.open(MODEL_STREAM)
            for body in bodies:
                connection.data(stream, body, end=body is bodies[-1])
                scene.pump(limit_s=0.01)
            streams.append(stream)
    scene.pump(lambda: all(stream.status for stream in streams))
    scene.saw_all(streams)


@attempt(Kind(Mode.TOKEN), *HELD, "OK", "INVALID_ARGUMENT")
def streams_without_end(scene: Scene) -> None:
    """Streams that send small requests as fast as they are taken, and read the answers."""
    connections = [scene.connect() for _ in range(4)]
    streams = [(one, one.open(MODEL_STREAM)) for one in connections for _ in range(8)]

    def refill() -> bool:
        for connection, stream in streams:
            if len(stream.outgoing) < 4:
                connection.data(stream, GOOD * 50)
        return False

    scene.pump(refill, scene.of(10, 1))
    scene.saw_all(stream for _, stream in streams)


@attempt(Kind(), *HELD, "OK", "INVALID_ARGUMENT", "INTERNAL")
def streams_cut_short(scene: Scene) -> None:
    """Streams that end in the middle of a message, or are given up while answers are on their way."""
    connection = scene.connect()
    streams = []
    for size in (1, 4, 5, 9, len(GOOD) - 1):
        streams.append(connection.open(MODEL_STREAM))
        connection.data(streams[-1], GOOD + GOOD[:size], end=True)
    for _ in range(scene.of(200, 50)):
        given_up = connection.open(MODEL_STREAM)
        connection.data(given_up, GOOD * 3)
        connection.reset(given_up)
    scene.pump(lambda: all(stream.status for stream in streams), scene.of(15, 8))
    scene.saw_all(streams)
