"""Processor time of the whole server for a picture, of this checkout beside an older commit, in turns."""

import contextlib
import os
import statistics
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

import msgspec

from benchmarks.cloud.contenders import Contender, free_port, served
from benchmarks.cloud.load import burst, framed
from benchmarks.decode.model import MODEL, jpeg_of_bytes, textured, write_model
from spillover.common.errors import SpilloverError
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.lab.terminal import Progress

LEAST_BYTES = 60
"""Of an answer; its times take a byte more or less."""
INFER = "/spillover.v1.Spillover/Infer"
SIZES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {"640x480": (640, 480, 12_000), "1280x720": (1280, 720, 20_000)}
)
"""Width, height and bytes of the JPEGs."""
_GIT_S = 60.0
_WARM_UP = 40


@dataclass(frozen=True, slots=True)
class CostCell:
    """Medians over the rounds of the server's processor time a picture, in ms."""

    size: str
    concurrency: int
    old_ms: float | None
    new_ms: float


def measure(
    old: str | None,
    concurrencies: tuple[int, ...],
    rounds: int,
    requests: int,
    work: Path,
    progress: Progress,
) -> list[CostCell]:
    """Burst after burst, the servers in turn; `old` names a commit.

    Raises:
        SpilloverError: a server does not start, a request fails, or git does not know the commit.
    """
    write_model(work / "models")
    bodies = {name: _body(work, name, *size) for name, size in SIZES.items()}
    times: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server("new", work, Path.cwd()))]
        if old:
            servers.append(stack.enter_context(server("old", work, checkout(old, work / "old"))))
        for body in bodies.values():
            for one in servers:
                burst(one.address, body, _WARM_UP, 4, one.processes(), INFER, LEAST_BYTES)
        cells = [(name, c) for name in bodies for c in concurrencies]
        for _ in progress.track(range(rounds), "rounds"):
            for name, concurrency in cells:
                for one in servers:
                    done = burst(
                        one.address, bodies[name], requests, concurrency, one.processes(), INFER, LEAST_BYTES
                    )
                    times[one.name, name, concurrency].append(done.cpu_ms)
                servers.reverse()
    return [
        CostCell(
            name,
            concurrency,
            statistics.median(times["old", name, concurrency]) if old else None,
            statistics.median(times["new", name, concurrency]),
        )
        for name, concurrency in cells
    ]


@contextlib.contextmanager
def server(name: str, work: Path, code: Path, **changes: object) -> Iterator[Contender]:
    """`spillover cloud` of the checkout `code`, with the model of `work` and other keys changed."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "listen": address,
        "metrics": None,
        "models": {"repository": str(work / "models")},
        "session": {"threads": 1},
        "log": {"level": "warning"},
    }
    path = work / f"{name}.yaml"
    path.write_bytes(msgspec.yaml.encode(config | changes))
    command = [sys.executable, "-m", "spillover.common.cli", "cloud", "-c", str(path)]
    with served(name, command, address, work, {"PYTHONPATH": str(code)}) as contender:
        yield contender


def checkout(commit: str, folder: Path) -> Path:
    """The files of a commit of this repository. Raises SpilloverError when git does not know it."""
    done = subprocess.run(
        ["git", "archive", commit], capture_output=True, timeout=_GIT_S, check=False, env=os.environ
    )
    if done.returncode:
        raise SpilloverError(f"git archive {commit}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="tar")
    return folder


def _body(work: Path, name: str, width: int, height: int, wanted: int) -> Path:
    path = work / f"{name}.body"
    path.write_bytes(framed(request_of(jpeg_of_bytes(textured(width, height), wanted))))
    return path


def request_of(jpeg: bytes, device: str = "") -> bytes:
    """A request for five classes."""
    image = pb.EncodedImage(format=pb.EncodedImage.FORMAT_JPEG, data=jpeg)
    request = pb.InferRequest(
        frame_id="f", device_id=device, model=pb.ModelRef(name=MODEL), image=image, max_classes=5
    )
    return request.SerializeToString()
