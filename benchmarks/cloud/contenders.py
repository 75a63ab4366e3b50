"""The servers that are compared, each started as its own user would start it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from benchmarks.cloud.engine import Engine
from benchmarks.cloud.networks import NETWORKS
from spillover.common.errors import SpilloverError
from spillover.common.processes import bound
from spillover.lab.processes import ProcessFailedError, stop, tail

_READY_S = 120.0


class NotHereError(SpilloverError):
    """A contender cannot run on this machine; the text says why, and the benchmark goes on without it."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that answers."""

    name: str
    address: str
    main: psutil.Process

    def processes(self) -> list[psutil.Process]:
        """The server's processes, children included."""
        return [self.main, *self.main.children(recursive=True)]

    def memory_mb(self) -> float:
        """Proportional set size of all processes together: shared pages count once."""
        return sum(process.memory_full_info().pss for process in self.processes()) / 1e6


Start = Callable[[Path, Path, Engine], contextlib.AbstractContextManager[Contender]]
"""(repository of the networks, folder to work in, what ONNX Runtime computes on) -> the running server."""


@contextlib.contextmanager
def spillover(repository: Path, work: Path, engine: Engine) -> Iterator[Contender]:
    """This project's server."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "listen": address,
        "metrics": None,
        "models": {"repository": str(repository)},
        "session": {"threads": engine.threads, "providers": engine.providers},
        "batching_of": {spec.name: {"max_batch_size": spec.max_batch_size} for spec in NETWORKS.values()},
        "log": {"level": "warning"},
    }
    path = work / "cloud.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    command = [sys.executable, "-m", "spillover.common.cli", "cloud", "-c", str(path)]
    with served("spillover", command, address, work) as contender:
        yield contender


@contextlib.contextmanager
def served(
    name: str, command: Sequence[str], address: str, work: Path, env: Mapping[str, str] | None = None
) -> Iterator[Contender]:
    """Run `command` until the block ends; it is ready when `address` takes connections.

    Raises:
        NotHereError: it ended first, or is not ready in time; the text has the end of its log.
    """
    log_path = work / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            bound(command), stdout=log, stderr=subprocess.STDOUT, cwd=work, env=os.environ | (env or {})
        )
        try:
            _wait_for(address, process, log_path)
            yield Contender(name, address, psutil.Process(process.pid))
        except ProcessFailedError as error:
            raise NotHereError(f"{name}: {error}") from error
        finally:
            stop(process, 30.0)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _wait_for(address: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    host, _, port = address.rpartition(":")
    give_up_s = time.monotonic() + _READY_S
    while time.monotonic() < give_up_s:
        if process.poll() is not None:
            raise ProcessFailedError(f"ended with code {process.returncode}:\n{tail(log_path)}")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.1)
    raise ProcessFailedError(f"not ready after {_READY_S:.0f} s:\n{tail(log_path)}")
