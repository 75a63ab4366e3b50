"""One load test from its configuration to its report."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console

from spillover.common.errors import SourceError, SpilloverError
from spillover.lab.loadtest.answer.answers import verdicts_of
from spillover.lab.loadtest.baselines import held_back, silent
from spillover.lab.loadtest.capacity import search
from spillover.lab.loadtest.config import CapacityConfig, FleetConfig, LoadConfig
from spillover.lab.loadtest.estimate import estimate
from spillover.lab.loadtest.extrapolate import extrapolate
from spillover.lab.loadtest.goals import judge
from spillover.lab.loadtest.links import schedule_of
from spillover.lab.loadtest.preparing import prepare_pairs
from spillover.lab.loadtest.recommended import FOLDER, write_recommended
from spillover.lab.loadtest.reference import expand_source
from spillover.lab.loadtest.report.load_report import write_page
from spillover.lab.loadtest.report.markdown import write_markdown
from spillover.lab.loadtest.report.tables import print_report
from spillover.lab.loadtest.results import (
    FORMAT,
    Capacity,
    Cell,
    Fleet,
    Probe,
    Report,
    this_host,
    write_csv,
    write_json,
)
from spillover.lab.loadtest.room import require_room
from spillover.lab.loadtest.scenarios import Scenarios
from spillover.lab.loadtest.server import require_loopback, servers_under_test, wait_until_reachable
from spillover.lab.loadtest.slow import brake_for, clear_groups
from spillover.lab.loadtest.sweep import alike, with_swept_modes
from spillover.lab.shaper.kernel import clear_links
from spillover.lab.terminal import Bar


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of the command line."""

    out: Path
    remote: bool = False
    only: tuple[str, ...] = ()
    """Scenarios to run; empty is all."""


class LoadTest:
    """One load test; `run` it once."""

    def __init__(self, config: LoadConfig, settings: Settings, console: Console) -> None:
        self._config = with_swept_modes(config)
        self._settings = settings
        self._console = console
        self._notes: list[str] = []
        self._left_out: set[str] = set()

    def run(self) -> Report:
        """Run everything and write report.json, .csv, .html and .md, and the folder of what is recommended.

        Raises:
            SpilloverError: a model, source or configuration is wrong, or a process failed.
        """
        config, out = self._config, self._settings.out
        if config.cloud.address and not self._settings.remote:
            require_loopback(config.cloud.address, "cloud.address")
        if config.generators and not self._settings.remote:
            for address in config.generators:
                require_loopback(address, "generators")
        self._check()
        self._prepare()
        clear_links()  # of tests whose process was killed before it could
        clear_groups()
        used = [name for name in config.scenarios if self._is_run(name)]
        expected = estimate(config, used)
        require_room(config, expected.most_simulated)
        self._say(expected.text())
        out.mkdir(parents=True, exist_ok=True)
        started_s = time.time()
        core_share = config.slow.core_share if config.slow else None
        with (
            brake_for(core_share) as brake,
            servers_under_test(config.cloud, self._cloud_models(used), out) as servers,
        ):
            self._notes.append(brake.description)
            scenarios = Scenarios(config, out, servers, brake, Bar(), self._say, self._notes)
            with self._partly_at_least(started_s, scenarios):
                self._run_cells(scenarios)
                cells = scenarios.cells
                self._notes += [*silent(cells, config), *held_back(cells, config)]
                if config.sweep:
                    self._notes += alike(cells, config.sweep, config)
                report = self._report(started_s, cells)
                if config.capacity:  # they load the server most: what there is, is written before
                    self._write(report, scenarios)
                capacity = self._capacity(scenarios)
        took_s = time.time() - started_s
        report = msgspec.structs.replace(report, took_s=took_s, capacity=capacity)
        self._write(report, scenarios)
        print_report(report, self._console)
        self._say(f"recommended: {out / FOLDER}")
        self._say(f"report: {out / 'report.html'}")
        return report

    def _report(self, started_s: float, cells: list[Cell]) -> Report:
        config = self._config
        return Report(
            format=FORMAT,
            started_unix_s=started_s,
            took_s=time.time() - started_s,
            host=this_host(),
            config=msgspec.json.decode(msgspec.json.encode(config)),
            notes=self._notes,
            cells=cells,
            verdicts=verdicts_of(cells, config),
            goals=judge(config.goals, cells, self._notes),
            fleet=self._fleet(cells),
        )

    def _write(self, report: Report, scenarios: Scenarios) -> None:
        out = self._settings.out
        write_json(report, out / "report.json")
        write_csv(report.cells, out / "report.csv")
        write_page(report, out / "report.html")
        write_markdown(report, out / "report.md")
        write_recommended(report.verdicts, scenarios)

    def _check(self) -> None:
        """Check sources, links and generators before the first minute is spent."""
        config = self._config
        for name, scenario in config.scenarios.items():
            if not self._is_asked(name):
                continue
            for link in scenario.links:
                schedule_of(config.links[link])
            played = config.played_by(scenario)
            if not (scenario.optional or played.optional):
                for source in played.all_sources:
                    expand_source(source)
        for address in config.generators:
            wait_until_reachable(address, "generators")

    def _prepare(self) -> None:
        """Build missing models and cuts, and check every mode and each pair."""
        used = [name for name in self._config.scenarios if self._is_asked(name)]
        prepared = prepare_pairs(self._config, used, self._console)
        self._notes += prepared.notes
        for name, why in prepared.absent.items():
            self._leave_out(name, why)

    def _is_asked(self, scenario: str) -> bool:
        return not self._settings.only or scenario in self._settings.only

    def _leave_out(self, scenario: str, why: str) -> None:
        self._left_out.add(scenario)
        self._notes.append(f"scenario {scenario} was left out: {why}")

    def _cloud_models(self, used: Sequence[str]) -> list[str]:
        """What the servers of these scenarios serve, each once."""
        pairs = [self._config.with_pair_of(self._config.scenarios[name]) for name in used]
        return list(dict.fromkeys(pair.cloud_model for pair in pairs))

    @contextmanager
    def _partly_at_least(self, started_s: float, scenarios: Scenarios) -> Iterator[None]:
        """When the block is left early, by whatever, write the report of the cells that have ended."""
        with ExitStack() as early:
            early.callback(self._write_partly, started_s, scenarios)
            yield
            early.pop_all()

    def _write_partly(self, started_s: float, scenarios: Scenarios) -> None:
        """Write a report that says that it is not whole."""
        if not scenarios.cells:
            return
        stopped = sys.exception()
        why = str(stopped) if isinstance(stopped, SpilloverError | OSError) else "it was interrupted"
        self._notes.append(f"This test did not end: {why}. Cells may have fewer repeats, or be missing.")
        self._write(self._report(started_s, scenarios.cells), scenarios)
        self._say(f"report of what has ended: {self._settings.out / 'report.html'}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def _run_cells(self, scenarios: Scenarios) -> None:
        for name, scenario in self._config.scenarios.items():
            if not self._is_run(name):
                continue
            try:
                scenarios.run(name)
            except SourceError as error:
                if not scenario.optional:
                    raise
                self._leave_out(name, str(error))

    def _capacity(self, scenarios: Scenarios) -> list[Capacity]:
        searches: list[Capacity] = []
        for config in self._config.capacity:
            if self._runs(config):
                searches += search(config, scenarios, self._print_probe)
        return searches

    def _fleet(self, cells: Sequence[Cell]) -> Fleet | None:
        config = self._config
        if not config.fleet or not self._runs(config.fleet):
            return None
        batching = config.cloud.config.get("batching", {})
        channels = int(batching.get("instances", 1))
        scenario = config.scenarios[config.fleet.scenario]
        asked_per_s = scenario.fps * scenario.offload_share if scenario.offload_share else None
        try:
            return extrapolate(
                config.fleet,
                cells,
                config,
                channels=channels,
                cores=this_host().cores,
                asked_per_s=asked_per_s,
            )
        except SourceError as error:
            self._notes.append(str(error))
            return None

    def _is_run(self, scenario: str) -> bool:
        return self._is_asked(scenario) and scenario not in self._left_out

    def _runs(self, part: CapacityConfig | FleetConfig) -> bool:
        """Whether the part's scenario is run and was not left out."""
        return self._is_run(part.scenario)

    def _print_probe(self, probe: Probe) -> None:
        self._say(
            f"capacity: {probe.edges} edges, {probe.sent_per_s:.1f} requests/s, "
            f"{probe.on_time_share:.2%} in time, {probe.lost} lost: {'held' if probe.held else 'not held'}"
            f"{f' ({probe.note})' if probe.note else ''}"
        )
