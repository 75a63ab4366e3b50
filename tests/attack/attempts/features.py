"""Features of a split network: damaged, lying, inflating."""

import os
import random
import struct
import zlib
from functools import cache
from pathlib import Path

from spillover.common.coding import STREAM_ID_BYTES, StreamPosition
from spillover.common.features.codec import decode_symbols, encode_features, encode_symbols
from spillover.common.features.quantized import Quantized
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import head_path, open_split_plan
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.lab.split.extract import Half
from tests.attack.attempts.pictures import BUSY
from tests.attack.messages import INFER, features
from tests.attack.suite import Scene, attempt
from tests.attack.world import GOOD, WEAK, Kind, Mode
from tests.support.splitting import coloured_pictures

_HEADER = 8
_MOST_ELEMENTS = 1 << 20
SENDERS_FAULT = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")


@attempt(Kind(), *SENDERS_FAULT, "OK")
def damaged_features(scene: Scene) -> None:
    """Bytes changed at random under a checksum that fits or does not; the good ones are answered."""
    head, good = good_features(scene.world.models)
    scene.saw(scene.call(INFER, features(head, good)), {"OK"}, "good features")
    rng = random.Random(2)
    for _ in range(scene.of(2000, 300)):
        body = bytearray(good[_HEADER:])
        for _ in range(rng.randint(1, 5)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        scene.saw(scene.call(INFER, features(head, _sealed(good[:4], bytes(body)))))
    for cut in range(0, len(good), max(1, len(good) // 40)):
        scene.saw(scene.call(INFER, features(head, good[:cut])), SENDERS_FAULT, f"cut to {cut}")


@attempt(Kind(), *SENDERS_FAULT)
def lying_features(scene: Scene) -> None:
    """Other versions and counts, shapes of 65535 ^ 4, NaN as clip, deflate of 1 GiB, another head's name."""
    head, good = good_features(scene.world.models)
    rest = good[_HEADER:]
    cases = [b"", b"SF", good[:-1], b"XX" + good[2:], _sealed(b"SF\xff\x01", rest)]
    cases += [_sealed(b"SF\x01" + bytes([count]), rest) for count in (0, 2, 9, 255)]
    clip = struct.pack("<ff", -1.0, 1.0)
    for axes in ((65535,) * 4, (0,), (), (65535,) * 5, (1,) * 255):
        shape = struct.pack(f"<{len(axes)}H", *axes)
        for levels in (0, 1, 2, 255):
            cases.append(
                _sealed(
                    b"SF\x01\x01",
                    bytes([0, levels, len(axes)]) + shape + clip + zlib.compress(bytes(64))[2:-4],
                )
            )
    for flags in (1, 2, 4, 8, 255):
        cases.append(_sealed(good[:4], bytes([flags]) + rest[1:]))
    nan_at = 3 + 2 * rest[2]
    for low, high in ((float("nan"), 1.0), (1.0, -1.0), (float("inf"), float("inf")), (-3e38, 3e38)):
        cases.append(_sealed(good[:4], rest[:nan_at] + struct.pack("<ff", low, high) + rest[nan_at + 8 :]))
    packer = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(scene.of(1024, 128))) + packer.flush()
    cases.append(_sealed(good[:4], rest[: nan_at + 8] + bomb))
    for data in cases:
        scene.saw(scene.call(INFER, features(head, data)), (*SENDERS_FAULT, "OK"))
    for name in (b"", bytes(32), head[:31], head + b"\0", bytes(1000)):
        scene.saw(scene.call(INFER, features(name, good)))


@attempt(Kind(), *SENDERS_FAULT, "OK", streams=True)
def damaged_changes(scene: Scene) -> None:
    """Changes against features that are held: damaged, forged numbers and digests; good ones are answered."""
    head, data = good_features(scene.world.models)
    key = decode_symbols(data, 1 << 20)
    pairs = zip(key.symbols, key.codings, strict=True)
    moved = Quantized(key.codings, tuple((symbols + 1) % coding.levels for symbols, coding in pairs))
    good, rng = encode_symbols(moved, key), random.Random(3)
    stream_id = rng.randbytes(STREAM_ID_BYTES)

    def send(number: int, reference: int, digest: int, data: bytes) -> bytes:
        position = pb.StreamPosition(stream_id=stream_id, number=number, reference=reference, digest=digest)
        sent = pb.Features(head_sha256=head, data=data, position=position)
        return pb.InferRequest(model=pb.ModelRef(name="residual"), features=sent).SerializeToString()

    for number in range(1, scene.of(600, 100), 2):
        scene.saw(scene.call(INFER, send(number, 0, key.digest(), data)), {"OK"}, "a key")
        body = bytearray(good[_HEADER:])
        for _ in range(rng.randint(1, 5)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        damaged = send(number + 1, number, moved.digest(), _sealed(good[:4], bytes(body)))
        scene.saw(scene.call(INFER, damaged))
    for number, reference, digest in ((5, 5, 0), (0, 0, 0), (2**32 - 1, 7, 1), (9, 2**32 - 1, 2)):
        scene.saw(scene.call(INFER, send(number, reference, digest, good)), SENDERS_FAULT)
    scene.saw(scene.call(INFER, send(10, 0, key.digest(), data)), {"OK"}, "a key")
    scene.saw(scene.call(INFER, send(11, 10, moved.digest(), good)), {"OK"}, "changes")
    scene.saw(scene.call(INFER, send(12, 11, moved.digest() ^ 1, good)), SENDERS_FAULT, "another digest")
    scene.saw(scene.call(INFER, send(13, 11, moved.digest(), good)), SENDERS_FAULT, "nothing is held")


@attempt(Kind(Mode.TOKEN), "FAILED_PRECONDITION", streams=True)
def streams_of_features_of_others(scene: Scene) -> None:
    """A device goes on with another one's stream, whose id it knows; then it begins one of the same id."""
    head, good = good_features(scene.world.models)
    digest, name = decode_symbols(good, _MOST_ELEMENTS).digest(), os.urandom(STREAM_ID_BYTES)

    def call(who: str, number: int, reference: int, data: bytes = good) -> str:
        position = StreamPosition(name, number, reference, digest)
        return scene.call(INFER, features(head, data, position), who=who)

    same = decode_symbols(good, _MOST_ELEMENTS)
    nothing_new = encode_symbols(same, same)
    scene.saw(call(GOOD, 1, 0), {"OK"}, "the owner's key")
    scene.saw(call(WEAK, 2, 1, nothing_new), what="another goes on")
    scene.saw(call(WEAK, 1, 0), {"OK"}, "a stream of the same id")
    scene.saw(call(GOOD, 2, 1, nothing_new), {"OK"}, "the owner goes on")


@attempt(Kind(Mode.TOKEN), "OK", "FAILED_PRECONDITION", *BUSY, streams=True)
def thousands_of_streams_of_features(scene: Scene) -> None:
    """One key for each of thousands of streams by one device; another device's key is answered."""
    head, good = good_features(scene.world.models)
    digest = decode_symbols(good, _MOST_ELEMENTS).digest()
    for number in range(scene.of(5000, 500)):
        position = StreamPosition(number.to_bytes(STREAM_ID_BYTES, "big"), 1, 0, digest)
        scene.saw(scene.call(INFER, features(head, good, position)))
    position = StreamPosition(os.urandom(STREAM_ID_BYTES), 1, 0, digest)
    scene.saw(scene.call(INFER, features(head, good, position), who=GOOD), {"OK"}, "another's key")


@cache
def good_features(models: Path) -> tuple[bytes, bytes]:
    """The name of a served head, and features that it has made."""
    folder = models / "residual" / "1"
    cut = open_split_plan(open_model_folder(folder)).cuts[0]
    image = Model.load(folder, SessionConfig(threads=1)).prepare(coloured_pictures(1)[0].image())[0]
    tensors = [tensor[0] for tensor in Half(head_path(folder, cut.name), threads=1).run([image[None]])]
    return bytes.fromhex(cut.head_sha256), encode_features(tensors, [seam.quantizer for seam in cut.seams])


def _sealed(start: bytes, body: bytes) -> bytes:
    """With a checksum that fits."""
    return start + zlib.crc32(body).to_bytes(4, "little") + body
