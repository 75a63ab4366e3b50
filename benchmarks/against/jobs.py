"""What the two servers are asked: one tensor, and pictures to classify."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from benchmarks.cloud.load import MODEL_INFER, write_body
from benchmarks.cloud.networks import NETWORKS, write_networks
from benchmarks.decode.model import INFER, MODEL, jpeg_of_bytes, request_of, textured, write_model
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc

_CALL_S = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One request that is sent again and again: its network, its method, and the file that h2load sends."""

    about: str
    network: str
    method: str
    body: Path
    equal_answers: bool
    """False where answers tell times, so that their lengths differ."""
    goals: Mapping[int, float] = field(default_factory=lambda: {16: 1.10})
    """By number of connections: at most so much of the older server's time."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is sent: its sides, the bytes of its JPEG, and the goals against commit 490090c."""

    width: int
    height: int
    jpeg_bytes: int
    goals: Mapping[int, float]


PICTURES = (
    Picture(640, 480, 12_000, {1: 0.86, 16: 0.92}),
    Picture(1280, 720, 20_000, {1: 0.5, 16: 0.5}),
)


def write_jobs(folder: Path) -> tuple[Path, Sequence[Job]]:
    """Write networks and requests to `folder`; gives the repository of the networks, and the jobs."""
    repository = folder / "networks"
    identity = NETWORKS["identity"]
    write_networks(repository, [identity])
    write_model(repository)
    tensor = folder / "tensor.body"
    write_body(identity, tensor)
    return repository, (
        Job("a tensor of 16 floats", identity.name, MODEL_INFER, tensor, equal_answers=True),
        *(_picture_job(folder, picture) for picture in PICTURES),
    )


def _picture_job(folder: Path, picture: Picture) -> Job:
    """Names no device, so that no answer is kept."""
    size = f"{picture.width}x{picture.height}"
    jpeg = jpeg_of_bytes(textured(picture.width, picture.height), picture.jpeg_bytes)
    body, message = folder / f"{size}.body", request_of(jpeg)
    body.write_bytes(struct.pack(">BI", 0, len(message)) + message)
    about = f"a JPEG of {size}, {len(jpeg) / 1000:.0f} kB"
    return Job(about, MODEL, INFER, body, equal_answers=False, goals=picture.goals)


def answered(address: str, network: str) -> int:
    """How many rows of `network` the server has answered since its start."""
    with grpc.insecure_channel(address) as channel:
        request = oip_pb.ModelStatisticsRequest(name=network)
        reply = oip_grpc.GRPCInferenceServiceStub(channel).ModelStatistics(request, timeout=_CALL_S)
    return sum(model.inference_count for model in reply.model_stats)
