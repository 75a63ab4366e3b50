"""The results of a load test, as report.json holds them; page and tables are made of them alone."""

import csv
import datetime as dt
import io
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from spillover.common.errors import SourceError
from spillover.lab.files import write_whole
from spillover.lab.loadtest.answer.parts import Costs, Verdict

FORMAT = 2


class Summary(msgspec.Struct, frozen=True):
    """The median of the repeats, between the smallest and the largest of them.

    For R independent repeats the interval from smallest to largest holds the true median with probability
    1 - 2^(1-R), whatever the distribution: 50 % for 2, 75 % for 3, 94 % for 5 (order statistics; David and
    Nagaraja 2003, section 7.1).
    """

    median: float
    low: float
    high: float
    repeats: int


def summarise(runs: Sequence[Mapping[str, float]]) -> dict[str, Summary]:
    """Every figure that all of the runs have."""
    columns = {name: [run[name] for run in runs] for name in runs[0] if all(name in run for run in runs)}
    return {
        name: Summary(float(np.median(column)), min(column), max(column), len(column))
        for name, column in columns.items()
    }


class Moment(msgspec.Struct, frozen=True):
    """Half a second of one run, for the time line. Seconds count from the window's beginning."""

    at_s: float
    sent_share: float
    degraded_share: float
    first_p95_ms: float | None
    server_cores: float | None
    up_mbit_per_s: float
    """Traffic over the link."""
    link_up_mbit_per_s: float | None
    """The link's limit; null is none."""
    breaker_open: bool = False


class Cell(msgspec.Struct, frozen=True):
    """One mode over one link with one number of edges, all repeats."""

    scenario: str
    mode: str
    link: str
    edges: int
    kind: str
    runs: list[dict[str, float]]
    summary: dict[str, Summary]
    first_quantiles_ms: list[float]
    """Over all repeats together, at even steps from 0 to 100 %."""
    final_quantiles_ms: list[float]
    timeline: list[Moment]
    """Of the first repeat."""
    reasons: dict[str, int]
    """Why the cloud's answer was missing where it was wanted."""
    drops: dict[str, int]
    """Captured frames without an answer, by reason, warm-up included."""

    @property
    def name(self) -> str:
        """Its name in reports, by which two of them are compared."""
        return f"{self.scenario} / {self.mode} / {self.link} / {self.edges}"

    def figure(self, measure: str) -> float | None:
        """The median of one measure, where it was measured."""
        return self.summary[measure].median if measure in self.summary else None


def by_place(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells of each scenario, link and number of edges, in the order of their first ones."""
    places: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells:
        places.setdefault((cell.scenario, cell.link, cell.edges), []).append(cell)
    return list(places.values())


class Probe(msgspec.Struct, frozen=True):
    """One window with one number of edges in a capacity search."""

    edges: int
    on_time_share: float
    sent_per_s: float
    lost: int
    held: bool
    note: str = ""
    """Why it could not be measured."""
    server_cpu_s: float | None = None
    """CPU seconds of the server for each request; null where it is not of this test, or had none."""


class Capacity(msgspec.Struct, frozen=True):
    """The largest number of edges that was held, and the smallest that was not (null: none tried failed).

    A number is held if it held in `needed` of at most `windows` windows.
    """

    scenario: str
    mode: str
    link: str
    goal_share: float
    held: int
    failed: int | None
    probes: list[Probe]
    needed: int = 2
    windows: int = 3
    cpu_limit_per_s: float | None = None
    """Requests a second that fill the server's cores, by the CPU time of a request with the fewest edges."""

    @property
    def held_per_s(self) -> float:
        """Requests a second with the largest number held: the median of its windows; 0 without one."""
        rates = [p.sent_per_s for p in self.probes if p.edges == self.held and p.held]
        return statistics.median(rates) if rates else 0.0

    @property
    def is_above_cpu_limit(self) -> bool:
        """More than the CPU time of a request allows: batches saved some, or the windows were too short."""
        return self.cpu_limit_per_s is not None and self.held_per_s > self.cpu_limit_per_s


class FleetPoint(msgspec.Struct, frozen=True):
    """A fleet of one size."""

    edges: int
    requests_per_s: float
    servers: int
    wait_p99_ms: float
    up_mbit_per_s: float
    down_mbit_per_s: float
    month: Costs
    """Of the whole fleet, in a month of the buyer's hours; a server that used a GPU has one."""


class FleetCheck(msgspec.Struct, frozen=True):
    """The model against a measured cell."""

    edges: int
    requests_per_s: float
    measured_utilization: float
    predicted_utilization: float
    measured_wait_ms: float
    predicted_wait_ms: float
    """Negative where the server is overrun and no wait is the mean."""
    asked_per_s: float | None = None
    """Requests a second that the scenario asks for; null where the recorded share was played."""

    @property
    def utilization_ratio(self) -> float | None:
        """Measured over predicted; None where one of them is 0."""
        return _ratio(self.measured_utilization, self.predicted_utilization)

    @property
    def wait_ratio(self) -> float | None:
        """Measured over predicted; None where one of them is 0, or the server is overrun."""
        return _ratio(self.measured_wait_ms, self.predicted_wait_ms)


class Fleet(msgspec.Struct, frozen=True):
    """An extrapolation, its assumptions, and its predictions beside measured cells."""

    scenario: str
    mode: str
    service_s: float
    server_limit_per_s: float
    """Requests a second that one server answers at most, if the network takes as long as in calibration."""
    assumptions: list[str]
    points: list[FleetPoint]
    checks: list[FleetCheck]
    server_limit_most_per_s: float = 0.0
    """The same if all its cores work without a pause, by CPU time alone."""


class GoalOutcome(msgspec.Struct, frozen=True):
    """One goal and its figure; `met` is null where it could not be measured, and `note` gives the reason."""

    text: str
    figure: str
    met: bool | None
    note: str = ""

    @property
    def shown(self) -> str:
        """The figure, or why there is none."""
        return self.note or self.figure


class Host(msgspec.Struct, frozen=True):
    """The machine of the load test."""

    machine: str
    processor: str
    cores: int
    system: str
    python: str


class Report(msgspec.Struct, frozen=True):
    """The content of report.json."""

    format: int
    started_unix_s: float
    took_s: float
    host: Host
    config: dict[str, Any]
    notes: list[str]
    """Notes for the reader: how edges were slowed, what was left out and why."""
    cells: list[Cell]
    verdicts: list[Verdict] = []
    """The answers to the buyer."""
    goals: list[GoalOutcome] = []
    capacity: list[Capacity] = []
    fleet: Fleet | None = None

    @property
    def started(self) -> str:
        """The start to the minute, in UTC."""
        return f"{dt.datetime.fromtimestamp(self.started_unix_s, dt.UTC):%Y-%m-%d %H:%M}"


def this_host() -> Host:
    """This machine."""
    return Host(
        machine=platform.machine(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def write_json(report: Report, path: Path) -> None:
    """Write report.json. Raises SpilloverError."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def read_report(path: Path) -> Report:
    """Read report.json, or the one in the folder `path`.

    Raises:
        SourceError: it cannot be read, or is not a report of this format.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        report = msgspec.json.decode(file.read_bytes(), type=Report)
    except OSError as error:
        raise SourceError(f"{file}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise SourceError(f"{file}: not the report of a load test: {error}") from error
    if report.format != FORMAT:
        raise SourceError(f"{file}: is of format {report.format}, this version reads format {FORMAT}")
    return report


def write_csv(cells: Sequence[Cell], path: Path) -> None:
    """One row a cell and measure: median, smallest and largest of the repeats. Raises SpilloverError."""
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(
        ["scenario", "mode", "link", "edges", "kind", "measure", "median", "low", "high", "repeats"]
    )
    for cell in cells:
        for measure, summary in cell.summary.items():
            where = (cell.scenario, cell.mode, cell.link, cell.edges, cell.kind)
            rows.writerow([*where, measure, summary.median, summary.low, summary.high, summary.repeats])
    write_whole(path, text.getvalue().encode())


def _ratio(measured: float, predicted: float) -> float | None:
    return measured / predicted if measured > 0 and predicted > 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(named, platform.processor())
