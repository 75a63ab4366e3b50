"""What is done on an aarch64 machine, beside this one where answers are compared; each step gives a row."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.common.errors import SpilloverError
from spillover.common.home import models_home
from spillover.edge.sinks.record import Record
from spillover.lab.daemons import CloudProcess, EdgeProcess, cloud_running, edge_running, run_edge
from spillover.lab.files import merged, write_yaml
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL
from spillover.lab.processes import ProcessFailedError, finish
from spillover.lab.runs.check.cli import waiting_in
from spillover.lab.runs.check.frame_accounting import FrameAccounting
from tests.arm64.machine import Machine
from tests.support.processes import free_port

GOAL_EQUAL = 0.95
GOAL_DIFFERENCE = 0.03
"""Twice what x86-64 and aarch64 differ by, and what quantisation alone moves this network's answers by."""
_SPOOLED = 6
_LIMIT_S = 300.0
_TESTS_LIMIT_S = 5400.0
_POLL_S = 0.2
_OF_THE_EMULATOR = (
    "tests/unit/common/test_allocator.py",
    "tests/unit/edge/test_camera_diagnosis.py::test_a_device_that_another_process_holds_is_busy",
    "tests/unit/edge/test_cli.py::test_a_signal_while_the_daemon_is_built_is_a_clean_end",
)
"""Tests that would judge the emulator: /proc tells its page faults, its name and its handlers of signals."""
_SUMMARY = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `met` is None where nothing is demanded, or the step was left out."""

    step: str
    figure: str
    goal: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Pictures:
    """JPEGs of labelled sets: ten for the models, more for pixels."""

    answered: tuple[Path, ...]
    resized: tuple[Path, ...]


class Steps:
    """The steps on one machine; `out` takes configurations, logs and results."""

    def __init__(self, machine: Machine, pictures: Pictures, out: Path) -> None:
        self._machine = machine
        self._pictures = pictures
        self._out = out
        self._source = out / "pictures"
        shutil.rmtree(out, ignore_errors=True)
        self._source.mkdir(parents=True)
        for path in pictures.answered:
            (self._source / path.name).symlink_to(path.resolve())

    def all(self) -> Mapping[str, Callable[[], Iterator[Row]]]:
        """Every step by its name, in order."""
        return {
            "doctor": self.doctor,
            "pixels": self.pixels,
            "answers": self.answers,
            "offload": self.offload,
            "spool": self.spool,
            "tests": self.tests,
        }

    def doctor(self) -> Iterator[Row]:
        """`spillover edge --check` and `spillover doctor`, beside a cloud that runs natively."""
        with self._cloud() as cloud:
            path = self._out / "doctor.yaml"
            write_yaml(path, merged(self._config(), _offloading(cloud.address)))
            for words in (["edge", "-c", str(path), "--check"], ["doctor", "-c", str(path)]):
                name = " ".join(word for word in words if word not in ("-c", str(path)))
                code = self._exit_code(["-m", "spillover.common.cli", *words], name.replace(" ", ""))
                yield Row(f"spillover {name}", f"exit code {code}", "0", code == 0)

    def pixels(self) -> Iterator[Row]:
        """Pictures as tensors, on both architectures."""
        program = [str(Path(__file__).with_name("pixels.py")), *map(str, self._pictures.resized)]
        here = json.loads(
            subprocess.run(
                [sys.executable, *program], capture_output=True, check=True, timeout=_LIMIT_S
            ).stdout
        )
        there = json.loads(self._machine.run(program, self._out / "pixels.log", limit_s=_LIMIT_S))
        for filter_, made in here.items():
            equal = sum(there[filter_][key] == digest for key, digest in made.items())
            demanded = filter_ == "linear"  # OpenCV has no exact form of the others
            yield Row(
                f"pictures resized alike, {filter_}",
                f"{equal} of {len(made)}",
                f"{len(made)}" if demanded else "-",
                equal == len(made) if demanded else None,
            )

    def answers(self) -> Iterator[Row]:
        """The edge's model of the default pair, on both architectures."""
        config = self._config()
        here = run_edge(config, self._out, "answers-here", limit_s=_LIMIT_S)
        there = self._run_edge(config, "answers-there")
        yield from _compared("edge_only, EfficientNet-Lite0 INT8", here, there)

    def offload(self) -> Iterator[Row]:
        """Every picture to a cloud that runs natively."""
        with self._cloud() as cloud:
            config = merged(self._config(), _offloading(cloud.address), {"mode": "cloud_only"})
            here = run_edge(config, self._out, "offload-here", limit_s=_LIMIT_S)
            there = self._run_edge(config, "offload-there")
        by_cloud = sum(record.answered_by == "cloud" for record in there)
        count = len(self._pictures.answered)
        yield Row("answered by the cloud in time", f"{by_cloud} of {count}", f"{count}", by_cloud == count)
        yield from _compared("cloud_only, EfficientNet-Lite2", here, there)

    def spool(self) -> Iterator[Row]:
        """Frames that were kept while no cloud was there outlive kill -9, and are answered after it."""
        spool = self._out / "spool.dat"
        port = free_port()
        config = merged(
            self._config(),
            _offloading(f"127.0.0.1:{port}"),
            {
                "mode": "cloud_only",
                "deadline_s": 1.0,
                "camera": {"fps": 2, "loop": True, "pace": "realtime"},
                "uplink": {"late_answer_window_s": 1.0, "breaker_pause_max_s": 1.0},
                "spool": {"path": str(spool), "max_mb": 16},
            },
        )
        with self._edge(config, "spool-before") as edge:
            _wait_until(lambda: len(edge.records()) >= _SPOOLED and len(waiting_in(spool)) >= _SPOOLED, edge)
            edge.process.send_signal(signal.SIGKILL)
            edge.process.wait(_LIMIT_S)
        waiting = waiting_in(spool)
        with self._cloud(f"127.0.0.1:{port}"), self._edge(config, "spool-after") as edge:
            _wait_until(lambda: waiting <= _answered_by_cloud(edge.records()), edge)
            edge.process.send_signal(signal.SIGTERM)
            finish(edge.process, edge.log, limit_s=60)
        frames = FrameAccounting()
        for name in ("spool-before", "spool-after"):
            with (self._out / f"{name}.jsonl").open("rb") as file:
                frames.add(file)
        violations = len(frames.report(on_disk=waiting_in(spool)).violations)
        yield Row("kept frames answered after kill -9", f"{len(waiting)} of {len(waiting)}", "all", met=True)
        yield Row("frames without exactly one ending", f"{violations}", "0", violations == 0)

    def tests(self) -> Iterator[Row]:
        """The unit tests of common and edge, of the checkout, beside each other."""
        parts = ("common", "edge")
        with ThreadPoolExecutor(len(parts)) as threads:
            codes = list(threads.map(self._test, parts))
        for part, code in zip(parts, codes, strict=True):
            lines = (self._out / f"tests-{part}.out").read_text(encoding="utf-8").splitlines() or [""]
            counts = {what: int(count) for count, what in _SUMMARY.findall(lines[-1])}
            figure = ", ".join(f"{count} {what}" for what, count in counts.items()) or f"exit code {code}"
            yield Row(f"unit tests of {part}", figure, "none failed", code == 0)

    def _test(self, part: str) -> int:
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile", "emulated"]
        left_out = [word for path in _OF_THE_EMULATOR for word in ("--deselect", path)]
        arguments = [*words, *left_out, "--durations", "15", f"tests/unit/{part}"]
        return self._exit_code(
            arguments,
            f"tests-{part}",
            limit_s=_TESTS_LIMIT_S,
            environment={"PYTHONSAFEPATH": ""},  # the tests' own helpers are found in the checkout
        )

    def _config(self) -> Mapping[str, Any]:
        return {
            "mode": "edge_only",
            "camera": {"source": str(self._source), "pace": "fast"},
            "model": {"folder": str(models_home() / EDGE_MODEL), "session": {"threads": 1}},
        }

    @contextmanager
    def _cloud(self, listen: str = "127.0.0.1:0") -> Iterator[CloudProcess]:
        models = {"repository": str(models_home()), "load": [CLOUD_MODEL.parent.name]}
        with cloud_running({"listen": listen, "models": models}, self._out) as cloud:
            yield cloud

    @contextmanager
    def _edge(self, config: Mapping[str, Any], name: str) -> Iterator[EdgeProcess]:
        python, prefix = (
            self._machine.python,
            self._machine.prefix({"SPILLOVER_HOME": str(self._out / "home")}),
        )
        with edge_running(config, self._out, name, python=python, prefix=prefix) as edge:
            yield edge

    def _run_edge(self, config: Mapping[str, Any], name: str) -> list[Record]:
        with self._edge(config, name) as edge:
            finish(edge.process, edge.log, limit_s=_LIMIT_S)
        return edge.records()

    def _exit_code(
        self,
        arguments: Sequence[str],
        name: str,
        *,
        limit_s: float = _LIMIT_S,
        environment: Mapping[str, str] | None = None,
    ) -> int:
        log = self._out / f"{name}.log"
        try:
            self._machine.run(arguments, log, limit_s=limit_s, environment=environment)
        except ProcessFailedError as error:
            if (code := re.search(r"ended with code (-?\d+)", str(error))) is None:
                raise
            return int(code[1])
        return 0


def _offloading(address: str) -> Mapping[str, Any]:
    """Where the cloud is; an emulator takes its time."""
    return {"mode": "hybrid", "deadline_s": 20.0, "uplink": {"address": address}}


def _compared(what: str, here: Sequence[Record], there: Sequence[Record]) -> Iterator[Row]:
    """How many first classes are equal, and how far their probabilities are apart on average."""
    ours, theirs = (
        {record.source: record.classes[0] for record in records if record.classes}
        for records in (here, there)
    )
    if not ours or ours.keys() != theirs.keys():
        raise SpilloverError(f"{what}: {len(ours)} answers here, {len(theirs)} there, of other pictures")
    equal = sum(ours[name].class_id == theirs[name].class_id for name in ours) / len(ours)
    apart = sum(abs(ours[name].probability - theirs[name].probability) for name in ours) / len(ours)
    yield Row(f"{what}: first class equal", f"{equal:.0%}", f">= {GOAL_EQUAL:.0%}", equal >= GOAL_EQUAL)
    yield Row(
        f"{what}: probability apart, mean", f"{apart:.4f}", f"<= {GOAL_DIFFERENCE}", apart <= GOAL_DIFFERENCE
    )


def _answered_by_cloud(records: Sequence[Record]) -> set[str]:
    return {record.frame_id for record in records if record.answered_by == "cloud"}


def _wait_until(condition: Callable[[], bool], edge: EdgeProcess) -> None:
    """Raise SpilloverError when the daemon ends before, or after a limit."""
    give_up_at = time.monotonic() + _LIMIT_S
    while not (edge.results.exists() and condition()):
        edge.check()
        if time.monotonic() > give_up_at:
            raise SpilloverError(f"not within {_LIMIT_S:.0f} s; the log is {edge.log}")
        time.sleep(_POLL_S)
