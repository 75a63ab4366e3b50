"""Edge and cloud as child processes, each with its configuration, log and results in one folder."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.edge.sinks.record import Record
from spillover.lab.files import merged, write_yaml
from spillover.lab.processes import ProcessFailedError, finish, running, tail, wait_for_file
from spillover.lab.records import read_records


@dataclass(frozen=True, slots=True)
class CloudProcess:
    """A server that answers at `address` (host:port)."""

    address: str
    pid: int


@dataclass(frozen=True, slots=True)
class EdgeProcess:
    """An edge daemon and its files."""

    process: subprocess.Popen[bytes]
    log: Path
    results: Path

    def check(self) -> None:
        """Raise ProcessFailedError when it has ended."""
        if (code := self.process.poll()) is not None:
            raise ProcessFailedError(f"an edge ended early with code {code}:\n{tail(self.log)}")

    def records(self) -> list[Record]:
        """The results that it has written so far. Raises SourceError."""
        return read_records(self.results)


@contextlib.contextmanager
def cloud_running(config: Mapping[str, Any], out: Path) -> Iterator[CloudProcess]:
    """A server on a free port of the loopback interface while the block lasts; `config` is merged in.

    Raises:
        ProcessFailedError: it did not become ready; the text holds the end of its log.
    """
    path, ready, log = out / "cloud.yaml", out / "cloud.address", out / "cloud.log"
    ready.unlink(missing_ok=True)
    write_yaml(path, merged({"listen": "127.0.0.1:0", "metrics": None}, config))
    with running(["cloud", "-c", str(path), "--ready-file", str(ready)], log) as process:
        yield CloudProcess(wait_for_file(ready, process, log), process.pid)


@contextlib.contextmanager
def edge_running(
    config: Mapping[str, Any],
    out: Path,
    name: str,
    *,
    python: str = sys.executable,
    prefix: Sequence[str] = (),
) -> Iterator[EdgeProcess]:
    """A daemon with this edge.yaml while the block lasts; its files in `out` are called `name`."""
    path, log, results = (out / f"{name}.{suffix}" for suffix in ("yaml", "log", "jsonl"))
    results.unlink(missing_ok=True)
    sink = {"kind": "jsonl", "path": str(results), "decision": "full", "rotate_mb": 0}  # all of it is read
    write_yaml(path, merged(config, {"sinks": [sink]}))
    with running(["edge", "-c", str(path)], log, python=python, prefix=prefix) as process:
        yield EdgeProcess(process, log, results)


def run_edge(
    config: Mapping[str, Any], out: Path, name: str, *, limit_s: float, python: str = sys.executable
) -> list[Record]:
    """Run a daemon until its camera ends; its results.

    Raises:
        ProcessFailedError: it failed, or `limit_s` passed.
    """
    with edge_running(config, out, name, python=python) as edge:
        finish(edge.process, edge.log, limit_s=limit_s)
    return edge.records()
