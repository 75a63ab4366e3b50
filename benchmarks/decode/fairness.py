"""How long one caller's pictures take while another floods the server with large or slow ones.

As a program it is the flood: `python -m benchmarks.decode.fairness HOST:PORT NAME`.
"""

import contextlib
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import cv2
import grpc
import msgspec
import numpy as np

from benchmarks.cloud.contenders import Contender, free_port, served
from benchmarks.decode.model import INFER, jpeg_of_bytes, request_of, textured, write_model
from spillover.common.images import encode_jpeg
from spillover.common.processes import bound
from spillover.common.types import Image
from spillover.lab.terminal import Progress
from tests.support.slow_jpeg import slow_jpeg

Infer = Callable[..., bytes]
"""Sends a message and waits for the answer."""

_CALL_S = 120.0
_PERIOD_S = 0.05
_IN_FLIGHT = 24
_SIDE = 4992


def _progressive(image: Image) -> bytes:
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    if not done:
        raise RuntimeError("OpenCV cannot encode a progressive JPEG")
    return data.tobytes()


FLOODS: Mapping[str, Callable[[], bytes]] = MappingProxyType(
    {
        "25 Mpx": lambda: encode_jpeg(textured(_SIDE, _SIDE), 90).data,
        "25 Mpx, progressive": lambda: _progressive(textured(_SIDE, _SIDE)),
        "25 Mpx, 100 scans": lambda: slow_jpeg(99),
        "25 Mpx, 8000 scans": lambda: slow_jpeg(8000),
    }
)
"""What the other device sends."""


@dataclass(frozen=True, slots=True)
class FairnessRow:
    """A good device's 640x480 pictures, 20 a second, in ms.

    `one_flood_ms` is between two answers to the flood, which has one decode thread: what one decoding takes
    while all of this goes on.
    """

    flood: str
    status: str
    one_flood_ms: float
    alone_p50_ms: float
    alone_p99_ms: float
    flooded_p50_ms: float
    flooded_p99_ms: float

    @property
    def allowed_ms(self) -> float:
        """Twice the p99 without a flood, and one picture of the flood."""
        return 2 * self.alone_p99_ms + self.one_flood_ms


def measure(workers: int, pictures: int, work: Path, progress: Progress) -> list[FairnessRow]:
    """Each flood in turn, on a server with so many decode threads."""
    write_model(work / "models")
    good = request_of(jpeg_of_bytes(textured(640, 480), 12_000))
    with (
        _server(work, workers) as contender,
        grpc.insecure_channel(contender.address) as channel,
    ):
        infer = channel.unary_unary(INFER, bytes, bytes)
        _latencies_ms(infer, good, pictures)
        return [
            _row(name, contender.address, infer, good, pictures)
            for name in progress.track(list(FLOODS), "floods")
        ]


@contextlib.contextmanager
def _server(work: Path, workers: int) -> Iterator[Contender]:
    address = f"127.0.0.1:{free_port()}"
    config = {
        "listen": address,
        "metrics": None,
        "models": {"repository": str(work / "models")},
        "session": {"threads": 1},
        "executor": {"workers": workers},
        "log": {"level": "error"},
    }
    path = work / "cloud.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    command = [sys.executable, "-m", "spillover.common.cli", "cloud", "-c", str(path)]
    with served("spillover", command, address, work, {"PYTHONPATH": str(Path.cwd())}) as contender:
        yield contender


def _row(name: str, address: str, infer: Infer, good: bytes, pictures: int) -> FairnessRow:
    alone = _latencies_ms(infer, good, pictures)
    command = [sys.executable, "-m", "benchmarks.decode.fairness", address, name]
    with subprocess.Popen(bound(command), stdout=subprocess.PIPE, text=True) as flood:
        if flood.stdout is None:
            raise RuntimeError("the flood has no pipe")
        status = flood.stdout.readline().strip()
        begun_s = time.perf_counter()
        flooded = _latencies_ms(infer, good, pictures)
        elapsed_ms = (time.perf_counter() - begun_s) * 1e3
        flood.terminate()
        answers = len(flood.stdout.readlines())
    return FairnessRow(name, status, elapsed_ms / (answers + 1), *_p50_p99(alone), *_p50_p99(flooded))


def main(address: str, name: str) -> None:
    """Be the flood, for ever: print the status of one picture, then that of each answer."""
    message = request_of(FLOODS[name]())
    with grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)]) as channel:
        infer = channel.unary_unary(INFER, bytes, bytes)
        flood = [infer.future(message, timeout=_CALL_S) for _ in range(_IN_FLIGHT)]
        for number in itertools.cycle(range(_IN_FLIGHT)):
            print(flood[number].code().name, flush=True)  # noqa: T201 - it waits, and this is the answer
            flood[number] = infer.future(message, timeout=_CALL_S)


def _latencies_ms(infer: Infer, message: bytes, count: int) -> list[float]:
    """One call at a time, begun every `_PERIOD_S` or as soon as the one before has its answer."""
    latencies = []
    for _ in range(count):
        begun_s = time.perf_counter()
        infer(message, timeout=_CALL_S)
        latencies.append((time.perf_counter() - begun_s) * 1e3)
        time.sleep(max(0.0, begun_s + _PERIOD_S - time.perf_counter()))
    return latencies


def _p50_p99(latencies_ms: list[float]) -> tuple[float, float]:
    return statistics.median(latencies_ms), float(np.percentile(latencies_ms, 99))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
