"""Requests of the Open Inference Protocol: cases made by hand, mutations, and messages that cost too much."""

import random
from collections.abc import Sequence

import numpy as np

from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.pb import spillover_pb2 as own_pb
from tests.attack.messages import INFER, LARGEST, MODEL_INFER, OIP, one_row, tensors
from tests.attack.suite import REFUSED_AT_ONCE, Scene, attempt
from tests.attack.world import Kind, Mode

Tensor = pb.ModelInferRequest.InferInputTensor
SENDERS_FAULT = ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED")


@attempt(Kind(), *SENDERS_FAULT)
def tensors_made_by_hand(scene: Scene) -> None:
    """Negative, overflowing and endless shapes, wrong types, lengths that lie, shared memory."""
    for shape in ([-1, 4], [0, 2**62], [2**62, 4], [2**63 - 1] * 3, [-(2**63)], [1] * 1000, [], [1, 5], [4]):
        scene.saw(scene.call(MODEL_INFER, _request(shape=shape)), what=str(shape[:4]))
    for datatype in ("", "fp32", "FP64", "BYTES", "BF16", "X" * 1000, "\0"):
        scene.saw(scene.call(MODEL_INFER, _request(datatype=datatype)), what=datatype[:10])
    for raw in ([], [b""], [bytes(15)], [bytes(17)], [bytes(16)] * 2, [bytes(16)] * 300):
        scene.saw(scene.call(MODEL_INFER, _request(raw=raw)), what=f"{len(raw)} raw")
    for claimed in (0, 5, 2**31, 2**32 - 1):
        string = claimed.to_bytes(4, "little") + b"abc"
        scene.saw(
            scene.call(MODEL_INFER, _request("strings", datatype="BYTES", raw=[string])),
            what=f"string of {claimed}",
        )
    both = pb.ModelInferRequest.FromString(_request())
    both.inputs[0].contents.fp32_contents.extend([1.0] * 4)
    scene.saw(scene.call(MODEL_INFER, both.SerializeToString()), what="raw and typed")
    shared = pb.ModelInferRequest.FromString(_request(raw=[]))
    shared.inputs[0].parameters["shared_memory_region"].string_param = "x"
    scene.saw(scene.call(MODEL_INFER, shared.SerializeToString()), what="shared memory")
    twice = pb.ModelInferRequest(
        model_name="identity", inputs=[both.inputs[0]] * 2, raw_input_contents=[bytes(16)] * 2
    )
    scene.saw(scene.call(MODEL_INFER, twice.SerializeToString()), what="one input twice")


@attempt(Kind(), *SENDERS_FAULT, "OK", "DEADLINE_EXCEEDED")
def extremes_of_tensors(scene: Scene) -> None:
    """NaN and infinities as values, priorities and timeouts at their ends, long ids and names."""
    values = np.array([[np.nan, np.inf, -np.inf, 3e38]], np.float32)
    scene.saw(scene.call(MODEL_INFER, tensors("identity", values)), {"OK"}, "NaN")
    for key in ("timeout", "priority", "sequence_id"):
        for number in (0, 1, -1, 2**63 - 1, -(2**63)):
            request = pb.ModelInferRequest.FromString(one_row())
            request.parameters[key].int64_param = number
            scene.saw(scene.call(MODEL_INFER, request.SerializeToString()), what=f"{key}={number}")
    for field in ("id", "model_version"):
        request = pb.ModelInferRequest.FromString(one_row())
        setattr(request, field, "x" * 1_000_000)
        scene.saw(scene.call(MODEL_INFER, request.SerializeToString()), SENDERS_FAULT, f"{field} of 1 MB")


@attempt(Kind(), *SENDERS_FAULT, "OK", "DEADLINE_EXCEEDED")
def mutated_tensors(scene: Scene) -> None:
    """Good requests with bytes changed, left out or put in at random."""
    rng = random.Random(3)
    good = [one_row(), _request("strings", datatype="BYTES", raw=[b"\1\0\0\0a" * 4]), one_row("lookup")]
    for number in range(scene.of(3000, 400)):
        data = bytearray(good[number % len(good)])
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at]
                case _:
                    data[at:at] = rng.randbytes(rng.randint(1, 4))
        scene.saw(scene.call(MODEL_INFER, bytes(data)))


@attempt(Kind(), *SENDERS_FAULT)
def outputs_without_end(scene: Scene) -> None:
    """One message of 16 MB of empty outputs, and four of 2 MB at once."""
    asked = one_row()
    for _ in range(scene.of(5, 1)):
        scene.saw(scene.call(MODEL_INFER, asked + b"\x32\x00" * ((LARGEST - 100) // 2), limit_s=60))
    connections = [scene.connect() for _ in range(4)]
    streams = [
        one.call(MODEL_INFER, asked + b"\x32\x00" * 1_000_000)
        for one in connections
        for _ in range(scene.of(8, 1))
    ]
    scene.pump(lambda: all(stream.status for stream in streams), 60)
    scene.saw_all(streams)


@attempt(Kind(), *SENDERS_FAULT)
def too_many_parts(scene: Scene) -> None:
    """Thousands of inputs, raw contents, parameters, outputs, unknown fields: below and above 64 kB."""
    asked = one_row()
    again = b"\x22\x03\x0a\x01k"
    for part in (b"\x2a\x00", b"\x3a\x00", b"\x32\x00", again, b"\x32\x03\x0a\x01x"):
        for size in (20_000, 60_000, 400_000, LARGEST - 100):
            status = scene.call(MODEL_INFER, asked + part * (size // len(part)), limit_s=60)
            # A parameter that comes again takes the place of the one before: a map has each key once.
            scene.saw(
                status, {*SENDERS_FAULT, "OK"} if part is again else (), f"{size} bytes of {part.hex()}"
            )
    deep = b""
    for _ in range(3000):
        deep = b"\x83\x01" + deep + b"\x84\x01"
    scene.saw(scene.call(MODEL_INFER, deep), (*SENDERS_FAULT, "OK"), "groups in groups")


@attempt(Kind(Mode.TOKEN), *SENDERS_FAULT, *REFUSED_AT_ONCE)
def messages_that_stop_the_loop(scene: Scene) -> None:
    """400 kB of empty outputs again and again from four connections: others are answered meanwhile."""
    message = one_row() + b"\x32\x00" * 200_000
    scene.keep_calling(MODEL_INFER, [(scene.connect(), message) for _ in range(4)], 1, scene.of(15, 2))


@attempt(Kind(), "INVALID_ARGUMENT")
def data_that_the_network_refuses(scene: Scene) -> None:
    """Numbers outside of a network's table: the sender's fault, and few lines in the log."""
    before = scene.server.log.stat().st_size
    outside = tensors("lookup", np.full((1, 4), 1e6, np.float32))
    for _ in range(scene.of(500, 60)):
        scene.saw(scene.call(MODEL_INFER, outside))
    grown = scene.server.log.stat().st_size - before
    scene.require(grown < 20_000, f"the log grew by {grown} bytes")


@attempt(Kind(), "NOT_FOUND", "INVALID_ARGUMENT", "PERMISSION_DENIED")
def names_of_models(scene: Scene) -> None:
    """Names and versions that are paths, globs, control characters, or a megabyte long."""
    names = [
        "../../etc",
        "/etc/passwd",
        "a\0b",
        "\u202egnp",
        "%2e%2e",
        "*",
        "a\nb",
        "colour/1",
        "~",
        ".",
        "..",
        "x" * 1_000_000,
    ]
    for name in names:
        picture = own_pb.InferRequest(
            model=own_pb.ModelRef(name=name),
            image=own_pb.EncodedImage(format=own_pb.EncodedImage.FORMAT_JPEG, data=b"\xff"),
        )
        for path, message in (
            (INFER, picture),
            (MODEL_INFER, pb.ModelInferRequest(model_name=name)),
            (OIP + "ModelMetadata", pb.ModelMetadataRequest(name=name)),
            (OIP + "ModelConfig", pb.ModelConfigRequest(name="identity", version=name)),
            (OIP + "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name)),
            (OIP + "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name)),
        ):
            scene.saw(scene.call(path, message.SerializeToString()), what=f"{path} {name[:12]!r}")


def _request(
    model: str = "identity",
    *,
    shape: Sequence[int] = (1, 4),
    datatype: str = "FP32",
    raw: Sequence[bytes] = (bytes(16),),
) -> bytes:
    asked = Tensor(name="INPUT0", datatype=datatype, shape=shape)
    return pb.ModelInferRequest(model_name=model, inputs=[asked], raw_input_contents=raw).SerializeToString()
