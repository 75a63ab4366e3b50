"""The whole test: server, scenarios, repeats in turn, then the report."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console

from common.errors import SourceError
from common.home import models_home
from lab.evaluate.progress import Bar
from lab.loadtest.cells import CellPlan, cells_of, interleaved
from lab.loadtest.config import EdgeKind, LinkConfig, LoadConfig, ScenarioConfig
from lab.loadtest.figures import quantiles_ms
from lab.loadtest.goals import judge
from lab.loadtest.outcomes import join
from lab.loadtest.real import RealBench, Run
from lab.loadtest.reference import open_reference
from lab.loadtest.results import FORMAT, Cell, Report, this_host, write_csv, write_json
from lab.loadtest.server import Server, require_loopback, server_under_test
from lab.loadtest.slow import Brake, brake_for
from lab.loadtest.stats import summarise
from lab.loadtest.tables import print_report
from lab.prepare.pair import CLOUD_MODEL, EDGE_MODEL, prepare_pair
from lab.shaper.link import Schedule, constant, read_schedule


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line said."""

    out: Path
    remote: bool = False
    only: tuple[str, ...] = ()
    """Scenarios to run; empty is all."""


class LoadTest:
    """One load test; `run` it once."""

    def __init__(self, config: LoadConfig, settings: Settings, console: Console) -> None:
        self._config = config
        self._settings = settings
        self._console = console
        self._notes: list[str] = []

    def run(self) -> Report:
        """Run everything and write report.json and report.csv.

        Raises:
            SpilloverError: a model, source or configuration is wrong, or a process failed.
        """
        config, out = self._config, self._settings.out
        if config.cloud.address and not self._settings.remote:
            require_loopback(config.cloud.address, "cloud.address")
        self._prepare()
        out.mkdir(parents=True, exist_ok=True)
        started_s = time.time()
        core_share = config.slow.core_share if config.slow else None
        with (
            brake_for(core_share) as brake,
            server_under_test(config.cloud, config.cloud_model, out) as server,
        ):
            self._notes.append(brake.description)
            cells = self._cells(server, brake)
        report = Report(
            format=FORMAT,
            started_unix_s=started_s,
            took_s=time.time() - started_s,
            host=this_host(),
            config=msgspec.to_builtins(config),
            notes=self._notes,
            cells=cells,
            goals=judge(config.goals, cells, self._notes),
        )
        write_json(report, out / "report.json")
        write_csv(cells, out / "report.csv")
        print_report(report, self._console)
        return report

    def _prepare(self) -> None:
        if (self._config.edge_model, self._config.cloud_model) == (str(EDGE_MODEL), str(CLOUD_MODEL)):
            prepare_pair(console=self._console)

    def _cells(self, server: Server, brake: Brake) -> list[Cell]:
        cells: list[Cell] = []
        for name, scenario in self._config.scenarios.items():
            if self._settings.only and name not in self._settings.only:
                continue
            try:
                cells += self._scenario(name, scenario, server, brake)
            except SourceError as error:
                if not scenario.optional:
                    raise
                self._notes.append(f"scenario {name} was left out: {error}")
        return cells

    def _scenario(self, name: str, scenario: ScenarioConfig, server: Server, brake: Brake) -> list[Cell]:
        reference = open_reference(scenario.source, models_home() / self._config.cloud_model, Bar())
        schedules = {link: self._schedule(self._config.links[link]) for link in scenario.links}
        bench = RealBench(self._config, scenario, reference, server, brake)
        plans = cells_of(name, scenario)
        runs: dict[CellPlan, list[Run]] = {plan: [] for plan in plans}
        turns = list(interleaved(plans, scenario.repeats))
        for repeat, plan in Bar().track(turns, f"{name}: {len(plans)} cells x {scenario.repeats}"):
            folder = self._settings.out / plan.folder / f"repeat-{repeat}"
            runs[plan].append(bench.run(plan, schedules[plan.link], folder))
        return [_cell(plan, scenario.kind, of_plan) for plan, of_plan in runs.items()]

    @staticmethod
    def _schedule(link: LinkConfig) -> Schedule:
        return read_schedule(Path(link.trace).expanduser()) if link.trace else constant(link.constant())


def _cell(plan: CellPlan, kind: EdgeKind, runs: Sequence[Run]) -> Cell:
    outcomes = join([run.outcomes for run in runs])
    return Cell(
        scenario=plan.scenario,
        mode=plan.mode,
        link=plan.link,
        edges=plan.edges,
        kind=kind.value,
        runs=[run.figures for run in runs],
        summary=summarise([run.figures for run in runs]),
        first_quantiles_ms=quantiles_ms(outcomes.first_s),
        final_quantiles_ms=quantiles_ms(outcomes.final_s),
        timeline=runs[0].timeline,
        reasons=outcomes.reasons,
        drops=dict(sum((Counter(run.drops) for run in runs), Counter())),
    )
