"""Real processes of the program, for end-to-end tests: started, awaited within a limit, never left behind."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import msgspec
import pytest

from spillover.common.processes import bound
from spillover.edge.sinks.record import Record, is_event

LIMIT_S = 60


def _spillover(prefix: Sequence[str] = ()) -> list[str]:
    """The command, killed with the tests that started it, however these end."""
    return bound([*prefix, sys.executable, "-m", "spillover.common.cli"], signal.SIGKILL)


SPILLOVER = _spillover()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Poll within a limit; a process that ended meanwhile fails the test with what it logged."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "took longer than the limit"
        time.sleep(0.01)


def children_of(process_id: int) -> set[int]:
    """What a process has started and what is not gone, the dead ones that nobody awaited too."""
    tasks = Path(f"/proc/{process_id}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


def is_gone(process_id: int) -> bool:
    """Whether a process has ended, awaited or not."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in {"Z", "X"}


def free_port() -> int:
    """A port for a program that must be told one.

    From below those that the kernel gives out by itself (32768 on, ip(7)), so that nobody gets it meanwhile
    but another that asks here.
    """
    for _ in range(100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(15_000, 32_000)))
            return int(probe.getsockname()[1])
    pytest.fail("no free port")


@contextmanager
def cloud_process(
    folder: Path,
    *options: str,
    prefix: Sequence[str] = (),
    env: Mapping[str, str] = MappingProxyType({}),
    **changes: object,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process on the models of `folder`, and its address; killed at the end if it still lives.

    `prefix` is a command that becomes the one behind it; `env` is added to this process's environment.
    """
    config = {"listen": "127.0.0.1:0", "metrics": None, "models": {"repository": str(folder)}} | changes
    (folder / "cloud.yaml").write_bytes(msgspec.yaml.encode(config))
    ready = folder / "ready"
    ready.unlink(missing_ok=True)  # left behind by a server that was killed
    process = subprocess.Popen(
        [
            *_spillover(prefix),
            "cloud",
            "-c",
            str(folder / "cloud.yaml"),
            "--ready-file",
            str(ready),
            *options,
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1", **env},
    )
    try:
        wait_until(ready.exists, process)
        yield process, ready.read_text()
    finally:
        process.kill()
        process.communicate()


class EdgeProcess:
    """An edge daemon whose results are read from its standard output as they come."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.records: list[Record] = []
        self._decoder = msgspec.json.Decoder(Record)

    def read_until(self, condition: Callable[[Record], bool], count: int = 1) -> None:
        """Read on until `count` more records fulfil `condition`; the end of the stream fails the test."""
        while count:
            record = self._next()
            assert record is not None, "the edge ended early"
            count -= condition(record)

    def read_to_end(self) -> None:
        """Read what is left until the process closes its output."""
        while self._next() is not None:
            pass

    def _next(self) -> Record | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        while is_event(line):
            line = self.process.stdout.readline()
        if not line:
            return None
        self.records.append(self._decoder.decode(line))
        return self.records[-1]


@contextmanager
def edge_process(
    config: dict[str, object],
    folder: Path,
    prefix: Sequence[str] = (),
    env: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[EdgeProcess]:
    """An edge daemon with `config`, its log in `folder`/edge.log; killed at the end if it still lives.

    `prefix` and `env` as in `cloud_process`.
    """
    path = folder / "edge.yaml"
    path.write_bytes(msgspec.yaml.encode(config | {"sinks": [{"kind": "jsonl", "path": "-"}]}))
    with (folder / "edge.log").open("wb") as log:
        process = subprocess.Popen(
            [*_spillover(prefix), "edge", "-c", str(path)],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **env},
        )
        try:
            yield EdgeProcess(process)
        finally:
            process.kill()
            process.communicate()
