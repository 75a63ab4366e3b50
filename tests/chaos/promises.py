"""What link faults cost beside an edge that never sends: frame rate, latency, calls, time to resume.

Both edges have the same camera and model and run at the same time on the same machine, so whatever else
that machine does happens to both. The uplink is as it is shipped.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from spillover.edge.sinks.record import Record
from spillover.lab.processes import terminable
from spillover.lab.records import read_records
from tests.chaos.edge import Edge
from tests.chaos.faults import LINK_FAULTS
from tests.chaos.field import Field
from tests.support.faulty_link import Mode

MIN_RATE = 0.95
MAX_ADDED_MS = 2.0
MAX_AMPLIFICATION = 1.2
MAX_RESUME_S = 15.0
CUTS = ((1, Mode.CUT), (2, Mode.STALL), (5, Mode.HALF), (10, Mode.CUT), (20, Mode.STALL), (60, Mode.CUT))
"""Seconds without a link, and how it fails."""
_SETTLE_S = 3.0
"""From the beginning of a cut on: until then the breaker may still be closed."""
_MIN_FRAMES = 200
"""So many that one frame more or less at either end does not matter."""
_GIVE_UP_S = 120.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure beside its goal."""

    what: str
    value: float
    goal: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal is."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'met   ' if self.met else 'MISSED'} {self.what:60} {self.value:7.3f}  {sign} {self.goal:g}"


Say = Callable[[Measure], None]


def main() -> int:
    """Measure and print; exit code 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with terminable(), tempfile.TemporaryDirectory(prefix="spillover-promises-") as folder:
        missed = measure(Path(folder), options.seed)
    return 1 if missed else 0


def measure(folder: Path, seed: int) -> list[Measure]:
    """Measure everything, printing as it goes; gives what was missed."""
    field = Field(folder, scale=1.5, uplink={})
    twin_output = folder / "twin.jsonl"
    measures: list[Measure] = []

    def say(measure: Measure) -> None:
        measures.append(measure)
        click.echo(str(measure))

    try:
        twin = Edge(
            folder, "twin", field.plain | {"sinks": [{"kind": "jsonl", "path": str(twin_output)}]}, {}
        )
        try:
            rates(field, twin, random.Random(seed), say)
            for seconds, mode in CUTS:
                cut(field, twin_output, seconds, mode, say)
        finally:
            twin.kill()
        field.drain()
        code, verdict = field.edge.stop(), field.verdict()
        amplification(field, say)
        say(
            Measure(
                "frames that the spool accepted and lost, or without one ending", len(verdict.violations), 0
            )
        )
        say(Measure("exit code", code, 0))
    finally:
        field.close()
    return [measure for measure in measures if not measure.met]


def rates(field: Field, twin: Edge, rng: random.Random, say: Say) -> None:
    """Frames answered during each fault, over those of the edge that never sends."""
    for fault in LINK_FAULTS:
        before, twin_before = field.edge.look().frames, twin.look().frames
        given = twin_given = 0.0
        while twin_given < _MIN_FRAMES:
            fault(field, rng)
            given, twin_given = field.edge.look().frames - before, twin.look().frames - twin_before
        field.heal()
        what = f"frames/s, {fault.__name__} ({twin_given:.0f} frames), of edge_only"
        say(Measure(what, given / twin_given, MIN_RATE, at_least=True))
        _wait_for_cloud(field)


def cut(field: Field, twin_output: Path, seconds: float, mode: Mode, say: Say) -> None:
    """No link for so long: what it adds to the local latency, and how soon frames are offloaded again."""
    field.link.set(mode)
    begin_s = time.time()
    time.sleep(seconds)
    end_s = time.time()
    field.heal()
    say(
        Measure(f"seconds to offload after {seconds} s of {mode.value}", _wait_for_cloud(field), MAX_RESUME_S)
    )
    if seconds < 2 * _SETTLE_S:
        return
    span = (begin_s + _SETTLE_S, end_s)
    for share in (50, 99):
        own, plain = (_latency_ms(read_records(path), span, share) for path in (field.output, twin_output))
        what = f"ms added to the local p{share} by a dead link ({mode.value}; edge_only {plain:.2f})"
        say(Measure(what, own - plain, MAX_ADDED_MS))


def amplification(field: Field, say: Say) -> None:
    """Calls made for a call wanted."""
    calls = {
        name: value
        for name, value in field.samples[-1].look.metrics.items()
        if name.startswith("spillover_edge_uplink_calls_total")
    }
    retried = sum(value for name, value in calls.items() if '"retried"' in name)
    wanted = sum(calls.values()) - retried
    say(Measure(f"calls for a call wanted ({wanted:.0f} wanted)", 1 + retried / wanted, MAX_AMPLIFICATION))


def _wait_for_cloud(field: Field) -> float:
    """Seconds until the cloud gives a first result again."""
    start_s = time.monotonic()
    before = field.edge.look().by_cloud
    while field.edge.look().by_cloud <= before:
        assert time.monotonic() - start_s < _GIVE_UP_S, f"nothing is offloaded: {field.edge.tail()}"
        time.sleep(_POLL_S)
    return time.monotonic() - start_s


def _latency_ms(records: list[Record], span: tuple[float, float], share: float) -> float:
    """A percentile of the time to the first result, of frames captured within `span`."""
    begin_s, end_s = span
    found = [r.timings.total_s for r in records if not r.revision and begin_s <= r.captured_unix_s < end_s]
    return float(np.percentile(found, share)) * 1e3


if __name__ == "__main__":
    sys.exit(main())
