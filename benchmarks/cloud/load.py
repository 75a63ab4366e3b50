"""One burst of load by h2load (Debian's nghttp2-client), and what the server spent on it."""

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil

from benchmarks.cloud.networks import NetworkSpec
from spillover.common.errors import SpilloverError
from spillover.common.types import FloatArray
from spillover.common.wire.oip import reply_from_pb, request_to_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as pb_grpc
from spillover.common.wire.tensors import TensorRequest

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
_LIMIT_S = 300.0


class LoadError(SpilloverError):
    """The load could not be made, or its answers were wrong."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Figures of one burst. `cpu_ms` is the server's processor time a request, all its processes together."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


def find_h2load() -> str:
    """The path of h2load. Raises LoadError that says where it comes from."""
    if path := shutil.which("h2load"):
        return path
    raise LoadError(
        "h2load is not installed; on Debian and Ubuntu `apt-get install nghttp2-client` brings it"
    )


def ask_once(address: str, spec: NetworkSpec) -> FloatArray:
    """One request through a Python client: the values that this server gives for the sample."""
    with grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        request = request_to_pb(TensorRequest(spec.name, {"INPUT0": spec.sample()}))
        reply = reply_from_pb(stub.ModelInfer(request, timeout=_LIMIT_S, wait_for_ready=True))
    return np.asarray(reply.outputs["OUTPUT0"], np.float32)


def write_body(spec: NetworkSpec, path: Path) -> None:
    """The bytes that h2load sends: one gRPC message (no compression, 32-bit length, big-endian)."""
    message = request_to_pb(TensorRequest(spec.name, {"INPUT0": spec.sample()})).SerializeToString()
    path.write_bytes(struct.pack(">BI", 0, len(message)) + message)


def burst(
    address: str,
    body: Path,
    requests: int,
    concurrency: int,
    processes: Sequence[psutil.Process],
    method: str = MODEL_INFER,
    *,
    equal_answers: bool = True,
) -> Burst:
    """Send `requests` from `concurrency` connections, one at a time on each.

    `equal_answers` says that all answers have the same length, by which failed ones are noticed.

    Raises:
        LoadError: a request failed, or not all answers had the length of a successful one.
    """
    log = body.with_suffix(".log")
    log.unlink(missing_ok=True)
    cpu_before = _cpu_s(processes)
    done = subprocess.run(
        [
            find_h2load(), "-n", str(requests), "-c", str(concurrency), "-m", "1", "-d", str(body),
            f"--log-file={log}", "-H", "content-type: application/grpc", "-H", "te: trailers",
            f"http://{address}{method}",
        ],
        capture_output=True, text=True, timeout=_LIMIT_S, check=True,
    )  # fmt: skip
    cpu_s = _cpu_s(processes) - cpu_before
    return read_burst(done.stdout, log, requests, cpu_s, equal_answers=equal_answers)


def read_burst(output: str, log: Path, requests: int, cpu_s: float, *, equal_answers: bool = True) -> Burst:
    """What h2load printed, and its log of one line a request: start, HTTP status, microseconds.

    Raises:
        LoadError: as `burst`, or h2load printed something else.
    """
    _check(output, requests, equal_answers=equal_answers)
    rate = float(_find(r"finished in .*?, ([\d.]+) req/s", output))
    latency_ms = np.loadtxt(log, usecols=2, ndmin=1) / 1e3
    p50, p99 = np.percentile(latency_ms, [50, 99])
    return Burst(rate, float(p50), float(p99), cpu_s * 1e3 / requests)


def _check(output: str, requests: int, *, equal_answers: bool) -> None:
    """h2load calls any HTTP 200 a success; a gRPC error is one without a body, so the bytes are counted."""
    succeeded = int(_find(r"(\d+) succeeded", output))
    data = int(_find(r"\((\d+)\) data", output))
    if succeeded != requests or data == 0 or (equal_answers and data % requests):
        raise LoadError(
            f"of {requests} requests {succeeded} succeeded, with {data} bytes of answers:\n{output}"
        )


def _find(pattern: str, output: str) -> str:
    found = re.search(pattern, output)
    if not found:
        raise LoadError(f"h2load printed no {pattern!r}:\n{output}")
    return found[1]


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(time.user + time.system for time in times)
