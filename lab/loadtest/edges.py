"""Real edges: daemon processes with a configuration each, checked, started and stopped together."""

import contextlib
import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spillover.common.config import convert_config
from spillover.common.errors import ConfigError, SpilloverError
from spillover.common.model.locate import find_model_folder
from spillover.common.tasks.base import TaskSpec
from spillover.edge.assembly.policy import build_policy
from spillover.edge.assembly.temporal import build_temporal
from spillover.edge.config import EdgeConfig, Mode
from spillover.lab.daemons import EdgeProcess, edge_running
from spillover.lab.files import merged
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.slow import Brake
from spillover.lab.processes import ProcessFailedError, tail

_POLL_S = 0.05
_START_LIMIT_S = 90.0
_STOP_LIMIT_S = 30.0


def edge_config(config: LoadConfig, mode: str, forced: Mapping[str, Any]) -> dict[str, Any]:
    """The content of an edge.yaml of `mode`; `forced` are the keys that the test itself sets.

    `cloud_only` is pure cloud: the link decides what gets through, not the edge's forecast of it. A mode with
    `uplink.forecast: true` has the edge's own rules.

    Raises:
        ModelError: there is no such model.
    """
    base: dict[str, Any] = {
        "deadline_s": config.deadline_s,
        # One thread, so that edges leave the machine's other cores to the server, as two machines would.
        "model": {"folder": str(find_model_folder(config.edge_model)), "session": {"threads": 1}},
    }
    asked = config.asked_of(mode)
    if asked.get("mode") == Mode.CLOUD_ONLY.value:
        base["uplink"] = {"forecast": False}
    return merged(base, asked, forced)


def edge_of(config: LoadConfig, mode: str) -> EdgeConfig:
    """The edge.yaml of `mode` without camera and addresses. Raises ConfigError, naming mode and key."""
    made = edge_config(config, mode, {"camera": {"source": "-"}})
    return convert_config(made, EdgeConfig, f"modes.{mode} makes no edge.yaml")


def check_fits(edge: EdgeConfig, mode: str, task: TaskSpec[Any]) -> None:
    """Check that policy and temporal correction are for the model's task. Raises ConfigError."""
    try:
        build_temporal(edge, task)
        build_policy(edge, task, report_threshold=0.5, draw=lambda: 0.5)
    except ConfigError as error:
        raise ConfigError(f"modes.{mode}: {error}") from error


@contextlib.contextmanager
def edges_running(
    configs: Sequence[Mapping[str, Any]],
    folder: Path,
    brake: Brake,
    prefixes: Sequence[Sequence[str]],
) -> Iterator[list[EdgeProcess]]:
    """One daemon for each of `configs`, all ready when the block begins, its files in `folder`.

    Each command begins with its entry of `prefixes`.

    Raises:
        ProcessFailedError: one ended, or was not ready in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = {"log": {"level": "info", "json": True}}
    with contextlib.ExitStack() as stack:
        edges = [
            stack.enter_context(edge_running(merged(config, log), folder, f"edge-{index}", prefix=prefix))
            for index, (config, prefix) in enumerate(zip(configs, prefixes, strict=True))
        ]
        for edge in edges:
            brake.hold(edge.process.pid)
        _wait_until_ready(edges)
        stack.callback(_stop, edges)
        yield edges


def drops_of(edges: Sequence[EdgeProcess]) -> dict[str, int]:
    """Frames without an answer by reason, from the summaries in the logs of stopped edges.

    Raises:
        SpilloverError: an edge could not write all its results, which then say nothing; the text names them.
    """
    drops: Counter[str] = Counter()
    for edge in edges:
        summary = _summary(edge)
        lost = _counted(summary, "results_dropped[")
        if lost:
            why = ", ".join(f"{count} ({reason})" for reason, count in lost.items())
            raise SpilloverError(f"{edge.results}: an edge could not write all its results: {why} are lost")
        drops.update(_counted(summary, "frames_dropped["))
    return dict(drops)


def _summary(edge: EdgeProcess) -> dict[str, Any]:
    """What an edge said when it stopped; of several values of one key the last."""
    stopped = (event for event in _events(edge.log) if event.get("event") == "stopped")
    return {key: value for event in stopped for key, value in event.items()}


def _counted(summary: Mapping[str, Any], prefix: str) -> dict[str, int]:
    """The counters of that name in an edge's summary, by their labels."""
    return {
        key.removeprefix(prefix).rstrip("]"): int(count)
        for key, count in summary.items()
        if key.startswith(prefix)
    }


def _wait_until_ready(edges: Sequence[EdgeProcess]) -> None:
    give_up_at = time.monotonic() + _START_LIMIT_S
    for edge in edges:
        while not any(event.get("event") == "ready" for event in _events(edge.log)):
            edge.check()
            if time.monotonic() > give_up_at:
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
    """The log's JSON objects; other lines, and one still being written, are left out."""
    events = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            if isinstance(event := json.loads(line), dict):
                events.append(event)
    return events
