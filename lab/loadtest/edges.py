"""Real edges: daemon processes with a configuration each, started together, stopped together."""

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.common.model.locate import find_model_folder
from spillover.edge.sinks.record import Record
from spillover.lab.loadtest.slow import Brake
from spillover.lab.processes import ProcessFailedError, running, tail
from spillover.lab.records import read_records
from spillover.lab.yaml_files import merged, write_yaml

_POLL_S = 0.05
_START_LIMIT_S = 90.0
_STOP_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class EdgeProcess:
    """One daemon and its files."""

    process: subprocess.Popen[bytes]
    log: Path
    results: Path

    def check(self) -> None:
        """Raise ProcessFailedError when it has ended."""
        if (code := self.process.poll()) is not None:
            raise ProcessFailedError(f"an edge ended early with code {code}:\n{tail(self.log)}")

    def records(self) -> list[Record]:
        """What it answered."""
        return read_records(self.results)

    def drops(self) -> dict[str, int]:
        """Frames without an answer by reason, from the summary in its log."""
        summary: dict[str, Any] = next(
            (e for e in reversed(_events(self.log)) if e.get("event") == "stopped"), {}
        )
        return {
            key.removeprefix("frames_dropped[").rstrip("]"): int(count)
            for key, count in summary.items()
            if key.startswith("frames_dropped[")
        }


def edge_config(
    model: str, deadline_s: float, parts: Sequence[Mapping[str, Any]], forced: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of one edge.yaml; `parts` from load.yaml, `forced` what the test itself decides.

    Raises:
        ModelError: there is no such model.
    """
    base = {
        "deadline_s": deadline_s,
        # One thread, so that edges leave the machine's other cores to the server, as two machines would.
        "model": {"folder": str(find_model_folder(model)), "session": {"threads": 1}},
    }
    return merged(base, *parts, forced)


@contextlib.contextmanager
def edges_running(
    configs: Sequence[Mapping[str, Any]],
    folder: Path,
    brake: Brake,
    prefixes: Sequence[Sequence[str]] = (),
) -> Iterator[list[EdgeProcess]]:
    """One daemon for each of `configs`, all ready when the block begins, its files in `folder`.

    `prefixes`, if there are any, begin each one's command.

    Raises:
        ProcessFailedError: one ended, or was not ready in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        begins = prefixes or [()] * len(configs)
        edges = [
            _start(config, folder, index, stack, begin)
            for index, (config, begin) in enumerate(zip(configs, begins, strict=True))
        ]
        for edge in edges:
            brake.hold(edge.process.pid)
        _wait_until_ready(edges)
        stack.callback(_stop, edges)
        yield edges


def _start(
    config: Mapping[str, Any], folder: Path, index: int, stack: contextlib.ExitStack, begin: Sequence[str]
) -> EdgeProcess:
    path, log, results = (folder / f"edge-{index}.{end}" for end in ("yaml", "log", "jsonl"))
    results.unlink(missing_ok=True)
    sinks = [{"kind": "jsonl", "path": str(results)}]
    write_yaml(path, merged(config, {"sinks": sinks, "log": {"level": "info", "json": True}}))
    process = stack.enter_context(running(["edge", "-c", str(path)], log, prefix=begin))
    return EdgeProcess(process, log, results)


def _wait_until_ready(edges: Sequence[EdgeProcess]) -> None:
    limit_s = time.monotonic() + _START_LIMIT_S
    for edge in edges:
        while not any(event.get("event") == "ready" for event in _events(edge.log)):
            edge.check()
            if time.monotonic() > limit_s:
                raise ProcessFailedError(
                    f"an edge was not ready in {_START_LIMIT_S:.0f} s:\n{tail(edge.log)}"
                )
            time.sleep(_POLL_S)


def _stop(edges: Sequence[EdgeProcess]) -> None:
    """SIGTERM for all, so that they drain side by side; a second one would end them at once."""
    for edge in edges:
        if edge.process.poll() is None:
            edge.process.send_signal(signal.SIGTERM)
    limit_s = time.monotonic() + _STOP_LIMIT_S
    for edge in edges:
        with contextlib.suppress(subprocess.TimeoutExpired):
            edge.process.wait(max(0.0, limit_s - time.monotonic()))


def _events(log: Path) -> list[dict[str, Any]]:
    """The log's JSON objects; a line that is still being written, or is not one, is passed over."""
    events = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            if isinstance(event := json.loads(line), dict):
                events.append(event)
    return events
