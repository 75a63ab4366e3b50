"""Memory by requests: bombs, and bodies that never end."""

import resource
import zlib
from functools import cache

from tests.attack.messages import CHECK, INFER, JPEG, LARGEST, MODEL_INFER, frame
from tests.attack.suite import CUT_OFF, REFUSED_AT_ONCE, STILL_OPEN, Scene, attempt
from tests.attack.world import MEMORY_BYTES, REVOKED, STRANGER, WEAK, Kind, Mode, memory
from tests.support.h2 import framed

HELD = (STILL_OPEN, "DEADLINE_EXCEEDED", "CANCELLED", "RST_CANCEL", *REFUSED_AT_ONCE, *CUT_OFF)
"""How a call may end whose body never comes: at any time, but neither well nor by the server's fault."""
PART = bytes((15 << 20) - 1)
OPEN_METHOD_HELD = (*HELD, "RST_NO_ERROR", "INVALID_ARGUMENT", "no status")


@attempt(Kind(), "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "INVALID_ARGUMENT")
def compression_bombs(scene: Scene) -> None:
    """Messages that inflate to 1000 times their size, by gzip and deflate, to Infer and to Health/Check."""
    for encoding in ("gzip", "deflate"):
        for path in (INFER, CHECK):
            connection = scene.connect(STRANGER)
            stream = connection.open(path, [("grpc-encoding", encoding)])
            connection.data(stream, framed(_bomb(encoding, scene.of(1024, 64)), compressed=True), end=True)
            scene.saw(scene.end_of(stream))


@cache
def _bomb(encoding: str, megabytes: int) -> bytes:
    packer = zlib.compressobj(1, wbits=31 if encoding == "gzip" else 15)
    zeros = bytes(1 << 20)
    return b"".join(packer.compress(zeros) for _ in range(megabytes)) + packer.flush()


@attempt(Kind(), "RESOURCE_EXHAUSTED", *CUT_OFF)
def a_message_of_100_mb(scene: Scene) -> None:
    """A message of 100 MB is refused by its length."""
    connection = scene.connect()
    stream = scene.withhold(connection, INFER, 100 << 20, bytes(32 << 20))
    scene.pump(lambda: bool(stream.status))
    scene.saw_all([stream])


@attempt(Kind(Mode.TOKEN), *HELD)
def withheld_bodies(scene: Scene) -> None:
    """Infer with 15 MB whose last byte never comes, 100 calls on each of three connections of one device."""
    _withhold(scene, INFER, WEAK, connections=3, calls=scene.of(100, 40))


@attempt(Kind(), *HELD)
def withheld_bodies_in_the_clear(scene: Scene) -> None:
    """The same on one connection, by somebody who proves nothing."""
    _withhold(scene, INFER, WEAK, connections=1, calls=scene.of(100, 40))


@attempt(Kind(Mode.TOKEN), *HELD)
def withheld_bodies_from_many_addresses(scene: Scene) -> None:
    """The same by one device from twenty source addresses, ModelInfer and Infer by turns."""
    _withhold_everywhere(scene)


@attempt(Kind(), *HELD, shared=True, short=False)
def withheld_bodies_of_many_strangers(scene: Scene) -> None:
    """The same from twenty source addresses, by callers who prove nothing."""
    _withhold_everywhere(scene)


@attempt(Kind(Mode.TOKEN), *OPEN_METHOD_HELD)
def withheld_bodies_of_strangers(scene: Scene) -> None:
    """The same to Health/Check, which everybody may call, without a token."""
    _withhold(scene, CHECK, STRANGER, connections=3, calls=scene.of(60, 30))


@attempt(Kind(Mode.TOKEN), "UNAUTHENTICATED", *REFUSED_AT_ONCE, *CUT_OFF)
def withheld_bodies_without_token(scene: Scene) -> None:
    """The same to Infer without a token: refused by its headers, and disconnected."""
    _withhold(scene, INFER, STRANGER, connections=3, calls=scene.of(60, 30))


@attempt(Kind(Mode.MTLS), "UNAUTHENTICATED", "GOAWAY_NO_ERROR", "closed", *REFUSED_AT_ONCE)
def withheld_bodies_of_a_revoked_device(scene: Scene) -> None:
    """The same with a certificate that was revoked: its bodies are not read."""
    _withhold(scene, INFER, REVOKED, connections=2, calls=scene.of(40, 20))


@attempt(Kind(Mode.MTLS), "UNAUTHENTICATED", "GOAWAY_NO_ERROR", "closed", *REFUSED_AT_ONCE)
def large_messages_of_a_revoked_device(scene: Scene) -> None:
    """Whole messages of 16 MB with a certificate that was revoked."""
    connection = scene.connect(REVOKED)
    streams = [connection.call(MODEL_INFER, b"\x32\x00" * (LARGEST // 2)) for _ in range(scene.of(20, 2))]
    scene.pump(lambda: all(stream.status for stream in streams))
    scene.saw_all(streams)


@attempt(Kind(Mode.TOKEN, few_models=True, fresh=True), *HELD)
def withheld_bodies_under_an_address_limit(scene: Scene) -> None:
    """Withheld bodies while the process may grow by no more than `memory_bytes` and 20 % (RLIMIT_AS)."""
    pid = scene.server.process.pid
    limit = int((memory(pid)["VmSize"] + MEMORY_BYTES) * 1.2)
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    _withhold(scene, INFER, WEAK, connections=3, calls=scene.of(100, 40))


@attempt(Kind(Mode.TOKEN), *HELD)
def bodies_that_drip(scene: Scene) -> None:
    """Bodies of 1 MB of which a byte comes now and then, 100 calls on each of two connections."""
    connections = [scene.connect() for _ in range(2)]
    streams = [(one, scene.withhold(one, INFER, 1 << 20, b"\x0a")) for one in connections for _ in range(100)]
    for _ in range(scene.of(40, 4)):
        for connection, stream in streams:
            connection.data(stream, b"\0")
        scene.hold(0.5)
    scene.saw_all(stream for _, stream in streams)


@attempt(Kind(), *HELD, "OK", "INVALID_ARGUMENT", shared=True)
def whole_messages_all_at_once(scene: Scene) -> None:
    """Whole pictures of 15 MB, in all several times what memory is allowed, on ten connections."""
    padded = frame(JPEG + bytes(15_000_000))
    connections = [scene.connect() for _ in range(10)]
    streams = [one.call(INFER, padded) for _ in range(scene.of(10, 4)) for one in connections]
    scene.pump(lambda: all(stream.status for stream in streams), scene.of(60, 10))
    scene.saw_all(streams)


def _withhold(scene: Scene, path: str, who: str, *, connections: int, calls: int) -> None:
    made = [scene.connect(who) for _ in range(connections)]
    streams = [scene.withhold(one, path, len(PART) + 1, PART) for one in made for _ in range(calls)]
    scene.hold(scene.of(15, 2))
    scene.saw_all(streams)


def _withhold_everywhere(scene: Scene) -> None:
    connections = [scene.connect(source=f"127.0.1.{number + 1}") for number in range(20)]
    streams = [
        scene.withhold(connection, path, len(PART) + 1, PART)
        for connection in connections
        for path in (MODEL_INFER, INFER) * scene.of(10, 2)
    ]
    scene.hold(scene.of(15, 2))
    scene.saw_all(streams)
