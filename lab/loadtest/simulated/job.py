"""The job of a generator and its result; both travel as MessagePack."""

import io
from typing import Annotated

import msgspec
import numpy as np

from spillover.lab.loadtest.outcomes import ARRAYS, Outcomes
from spillover.lab.shaper.link import Schedule

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class LoggedFrame(msgspec.Struct, frozen=True, array_like=True):
    """One frame of a recorded decision log."""

    wanted: bool
    """The policy wanted the cloud's answer."""
    local_s: float
    """From capture to the local answer."""
    encode_s: float
    """From the local answer to the payload being ready."""
    payload: int
    """Number of its payload, for frames that are wanted."""


class Payload(msgspec.Struct, frozen=True, array_like=True):
    """The bytes that one frame is sent as: a JPEG, or features of the head with that digest."""

    data: bytes
    head_sha256: str = ""


class Job(msgspec.Struct, frozen=True):
    """One run of some simulated edges, all of one mode."""

    server: str
    schedule: Schedule
    first_edge: int
    edges: int
    fps: float
    warm_up_s: float
    window_s: float
    deadline_s: float
    margin_s: float
    late_window_s: float
    max_in_flight: int
    breaker_failures: int
    breaker_pause_max_s: float
    model_name: str
    model_version: str
    max_classes: int
    log: list[LoggedFrame]
    payloads: list[Payload]
    offload_share: Share | None = None
    """Send this share of the frames, drawn at random, in place of those the log wanted."""
    share: int = 1
    """How many edges use one link."""
    forecast: bool = True
    """The breaker holds frames back, as an edge's does."""
    seed: int = 0
    connect_limit_s: float = 20.0
    """For all connections of a process, before anything is played."""
    processes: int = 0
    """Generator processes; 0 is one for each 250 edges, but no more than there are cores."""


class GeneratorResult(msgspec.Struct, frozen=True):
    """The measurements of one generator over the window."""

    outcomes: bytes
    """`pack_outcomes`."""
    cpu_s: float
    """CPU seconds of the generator's processes."""
    shaper_cpu_s: float
    run_up_bytes: int
    """On the wire from the beginning of the warm-up to the last answer."""
    run_payload_bytes: int
    """Of all frames that were sent in that time."""
    up_bytes: int
    """On the wire between the window's borders."""
    down_bytes: int
    begin_unix_s: float
    """When the warm-up began, by the generator's clock."""
    delays_s: list[float]
    """How far behind its schedule each request left."""


def encode_job(job: Job) -> bytes:
    """MessagePack of a job."""
    return msgspec.msgpack.encode(job)


def decode_job(data: bytes) -> Job:
    """The job again. Raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(data, type=Job)


def pack_outcomes(outcomes: Outcomes) -> bytes:
    """Outcomes as the bytes of an .npz file."""
    file = io.BytesIO()
    reasons = {
        "reason_names": np.array(list(outcomes.reasons), np.str_),
        "reason_counts": np.array(list(outcomes.reasons.values()), np.int64),
    }
    np.savez(file, allow_pickle=False, **{name: getattr(outcomes, name) for name in ARRAYS}, **reasons)
    return file.getvalue()


def unpack_outcomes(data: bytes) -> Outcomes:
    """The outcomes again."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        reasons = zip(arrays["reason_names"].tolist(), arrays["reason_counts"].tolist(), strict=True)
        return Outcomes(**{name: arrays[name] for name in ARRAYS}, reasons=dict(reasons))
