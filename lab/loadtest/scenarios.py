"""Runs the scenarios of one load test: each gives cells, by real or by simulated edges."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spillover.common.errors import SourceError
from spillover.common.model.locate import find_model_folder
from spillover.lab.loadtest.cells import CellPlan, cells_of, has_settled, interleaved
from spillover.lab.loadtest.config import EdgeKind, LoadConfig, ScenarioConfig
from spillover.lab.loadtest.figures import quantiles_ms
from spillover.lab.loadtest.links import by_kernel, schedule_of
from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.outcomes import join
from spillover.lab.loadtest.real import RealBench, Run
from spillover.lab.loadtest.reference import Reference, open_reference, write_reference
from spillover.lab.loadtest.results import Cell, summarise
from spillover.lab.loadtest.server import Server
from spillover.lab.loadtest.simulated.bench import Load, SimulatedBench
from spillover.lab.loadtest.simulated.recording import Recording, record, scaled, uplink_of
from spillover.lab.loadtest.slow import Brake
from spillover.lab.records import read_records
from spillover.lab.shaper.link import Schedule
from spillover.lab.terminal import Progress

RunCell = Callable[[CellPlan, Schedule, Path], Run]

_SHORT = (
    ("on_time_share", "on time"),
    ("degraded_share", "degraded"),
    ("sent_share", "sent"),
    ("up_bytes_per_frame", "a frame up"),
    ("accuracy", "right"),
    ("agreement", "agrees"),
)


def _quiet(text: str) -> None:
    """Say nothing."""
    del text


def _in_short(figures: Mapping[str, float]) -> str:
    return ", ".join(
        f"{MEASURES[name].show(figures[name])} {word}" for name, word in _SHORT if name in figures
    )


def _unsettled(runs: Mapping[CellPlan, Sequence[Run]], scenario: ScenarioConfig) -> list[CellPlan]:
    """The cells whose repeats still differ, where they are to settle."""
    within = scenario.until
    if within is None:
        return []
    return [plan for plan, done in runs.items() if not has_settled([run.figures for run in done], within)]


def _early(plan: CellPlan, runs: Sequence[Run]) -> Iterator[str]:
    """A note on a window that has what a month has once."""
    if begun := sum(run.videos_begun for run in runs):
        yield (
            f"{plan.name}: {begun} of {plan.edges * len(runs)} cameras' videos began inside the window. The "
            "first picture is whole, and later ones are changes, so bytes and costs are too high here: raise "
            "warm_up_s"
        )


@dataclass(slots=True)
class Scenarios:
    """Runs scenarios, each against its pair's server; references and recordings are made once and kept."""

    config: LoadConfig
    out: Path
    servers: Mapping[str, Server]
    """By the `cloud_model` that they serve."""
    brake: Brake
    progress: Progress
    say: Callable[[str], None] = _quiet
    """Told of each run as it ends."""
    notes: list[str] = field(default_factory=list)
    """Notes on the sources for readers of the report."""
    cells: list[Cell] = field(default_factory=list)
    """Of all runs that have ended so far, of a scenario that did not end too."""
    _references: dict[tuple[str, str], Reference] = field(default_factory=dict)
    _runs: dict[tuple[str, str], Path] = field(default_factory=dict)
    """By scenario and mode: the folder of a run with real edges."""
    _kernel: dict[str, bool] = field(default_factory=dict)
    _recordings: dict[tuple[str, str], Recording] = field(default_factory=dict)

    def run(self, name: str) -> None:
        """Run all cells of a scenario, repeats interleaved, and add them to `cells`.

        Raises:
            SourceError: its source cannot be read.
            SpilloverError: a process failed.
        """
        scenario = self.config.scenarios[name]
        run = self._runner(name, scenario)
        plans = cells_of(name, scenario)
        runs: dict[CellPlan, list[Run]] = {plan: [] for plan in plans}

        def play(turns: Sequence[tuple[int, CellPlan]], title: str) -> None:
            for repeat, plan in self.progress.track(turns, title):
                folder = self.out / plan.folder / f"repeat-{repeat}"
                runs[plan].append(run(plan, self.schedule(plan.link, repeat), folder))
                self.say(f"{plan.name}: {_in_short(runs[plan][-1].figures)}")

        try:
            turns = list(interleaved(plans, scenario.repeats))
            play(turns, f"{name}: {len(plans)} cells x {scenario.repeats}")
            for repeat in range(scenario.repeats, scenario.most_repeats if scenario.until else 0):
                if unsettled := _unsettled(runs, scenario):
                    play([(repeat, plan) for plan in unsettled], f"{name}: {len(unsettled)} cells unsettled")
            self.notes += [
                f"{plan.name}: not settled within {scenario.until:.0%} after {len(runs[plan])} repeats"
                for plan in _unsettled(runs, scenario)
            ]
        finally:
            self.notes += [note for plan, done in runs.items() for note in _early(plan, done)]
            self.cells += [cell_of(plan, scenario.kind, done) for plan, done in runs.items() if done]

    def schedule(self, link: str, repeat: int = 0) -> Schedule:
        """The link of that name over time, as a repeat has it. Raises SourceError for a bad trace."""
        return schedule_of(self.config.links[link], repeat)

    def real(self, scenario: ScenarioConfig, config: LoadConfig | None = None) -> RealBench:
        """Runs with real edges, of this test's configuration or a changed one."""
        mine = (config or self.config).with_pair_of(scenario)
        references = [self._reference(scenario, source) for source in scenario.all_sources]
        return RealBench(mine, scenario, references, self.servers[mine.cloud_model], self.brake)

    def simulated(self, scenario: ScenarioConfig, modes: Sequence[str], load: Load) -> SimulatedBench:
        """Runs with simulated edges that replay what real ones did in each of `modes`."""
        recordings = {mode: self._recording(scenario.record, mode) for mode in modes}
        mine = self.config.with_pair_of(scenario)
        return SimulatedBench(mine, load, self.servers[mine.cloud_model], recordings)

    def _runner(self, name: str, scenario: ScenarioConfig) -> RunCell:
        if scenario.kind is EdgeKind.SIMULATED:
            load = Load(
                scenario.fps,
                scenario.warm_up_s,
                scenario.window_s or _no_whole_pass(name),
                scenario.offload_share,
            )
            simulated = self.simulated(scenario, scenario.modes, load)
            return lambda plan, schedule, _: simulated.run(plan, schedule)
        real = self.real(scenario)
        for number, reference in enumerate(real.references):
            write_reference(reference, self.out / name / f"reference-{number}.jsonl")

        def run(plan: CellPlan, schedule: Schedule, folder: Path) -> Run:
            done = real.run(plan, schedule, folder, kernel=self._by_kernel(plan.link))
            self._runs.setdefault((name, plan.mode), folder)
            return done

        return run

    def _by_kernel(self, link: str) -> bool:
        """Whether the kernel paces that link; noted once in the report."""
        if link not in self._kernel:
            kernel, note = by_kernel(self.config.links[link].shaper, self.schedule(link))
            self._kernel[link] = kernel
            if note:
                self.notes.append(f"link {link}: {note}")
        return self._kernel[link]

    def _recording(self, scenario: str, mode: str) -> Recording:
        """A real edge's decisions and payloads in `mode`, from a run of `scenario`; makes one if needed."""
        key = (scenario, mode)
        if key not in self._recordings:
            settings = self.config.scenarios[scenario]
            if key not in self._runs:
                link = settings.links[0]
                plan = CellPlan(scenario, mode, link, 1)
                folder = self.out / plan.folder / "recording"
                self.real(settings).run(plan, self.schedule(link), folder)
                self._runs[key] = folder
            recording = self._read_recording(self._runs[key], settings)
            local_ms = self.config.slow.local_ms if self.config.slow else None
            self._recordings[key] = scaled(recording, local_ms / 1e3) if local_ms else recording
        return self._recordings[key]

    def _read_recording(self, folder: Path, scenario: ScenarioConfig) -> Recording:
        reference = self._reference(scenario, scenario.all_sources[0])
        records = read_records(folder / "edge-0.jsonl")
        uplink = uplink_of(folder / "edge-0.yaml")
        return record(records, reference.camera_source, reference.count, uplink)

    def _reference(self, scenario: ScenarioConfig, source: str) -> Reference:
        cloud_model = self.config.with_pair_of(scenario).cloud_model
        key = (source, cloud_model)
        if key not in self._references:
            reference = open_reference(source, find_model_folder(cloud_model), self.progress)
            self._references[key] = reference
            if reference.labels is None and (changes := reference.change_share) is not None:
                name = Path(reference.camera_source).name
                self.notes.append(
                    f"{name}: the cloud model's own best class changes on {changes:.0%} of its "
                    f"{reference.count} frames from one to the next, uncompressed"
                )
        return self._references[key]


def cell_of(plan: CellPlan, kind: EdgeKind, runs: Sequence[Run]) -> Cell:
    """The repeats of one cell, summed up."""
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


def _no_whole_pass(name: str) -> float:
    raise SourceError(f"scenarios.{name}.window_s: simulated edges play no source, so it must be a number")
