"""One run of one cell with real edges: start, warm up, measure the steady window, stop, read the results."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.edge.sinks.record import Record
from spillover.lab.loadtest.cells import CellPlan
from spillover.lab.loadtest.config import LoadConfig, ScenarioConfig
from spillover.lab.loadtest.edges import EdgeProcess, edge_config, edges_running
from spillover.lab.loadtest.figures import Setting, frame_figures, resource_figures
from spillover.lab.loadtest.outcomes import Outcomes, Window, in_window, join, outcomes_of
from spillover.lab.loadtest.reference import Reference
from spillover.lab.loadtest.results import Moment
from spillover.lab.loadtest.sampling import Sampler, clipped
from spillover.lab.loadtest.server import Server
from spillover.lab.loadtest.slow import Brake
from spillover.lab.loadtest.timeline import timeline_of
from spillover.lab.loadtest.ways import Meter, Way, ways_to
from spillover.lab.shaper.link import Schedule

_POLL_S = 0.25
_LATE_ANSWERS_S = 2.5
"""How long cameras go on after the window, so that its last frames end as all others do."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What one run gave."""

    figures: dict[str, float]
    outcomes: Outcomes
    timeline: list[Moment]
    drops: dict[str, int]


@dataclass(frozen=True, slots=True)
class RealBench:
    """Everything that the runs of one scenario share."""

    config: LoadConfig
    scenario: ScenarioConfig
    reference: Reference
    server: Server
    brake: Brake

    def run(self, plan: CellPlan, schedule: Schedule, folder: Path, *, kernel: bool = False) -> Run:
        """One run of `plan`; `kernel` paces its links.

        Raises:
            ProcessFailedError: an edge could not start, or ended early.
        """
        with ways_to(self.server.address, schedule, plan.edges, kernel=kernel) as ways:
            configs = [self._edge(plan, way, index) for index, way in enumerate(ways.each)]
            prefixes = [way.prefix for way in ways.each]
            with edges_running(configs, folder, self.brake, prefixes) as edges:
                window, sampler = self._watch(edges, ways.meter)
        return self._evaluate(plan, edges, window, sampler)

    def _watch(self, edges: Sequence[EdgeProcess], meter: Meter) -> tuple[Window, Sampler]:
        _sleep_watching(self.scenario.warm_up_s, edges)
        begin_s = time.time()
        with Sampler(self.server, [edge.process.pid for edge in edges], meter) as sampler:
            _sleep_watching(self._window_s, edges)
        _sleep_watching(self.config.deadline_s + _LATE_ANSWERS_S, edges)
        return Window(begin_s, begin_s + self._window_s), sampler

    @property
    def _window_s(self) -> float:
        return self.scenario.window_s or self.reference.count / self.scenario.fps

    def _edge(self, plan: CellPlan, way: Way, index: int) -> Mapping[str, Any]:
        config = self.config
        source = self.reference.camera_source
        forced = {
            "device_id": f"loadtest-{index}",
            "camera": {"source": source, "fps": self.scenario.fps, "loop": True, "pace": "realtime"},
            # The far end of a kernel link is in a namespace of this machine, and no loopback address.
            "uplink": {"address": way.address, "allow_plaintext_network": bool(way.prefix)},
            "policy": {"seed": index},
        }
        parts = [config.edge, config.modes[plan.mode]]
        return edge_config(config.edge_model, config.deadline_s, parts, forced)

    def _evaluate(
        self, plan: CellPlan, edges: Sequence[EdgeProcess], window: Window, sampler: Sampler
    ) -> Run:
        records = [edge.records() for edge in edges]
        samples = clipped(sampler.samples, window.begin_s, window.end_s)
        outcomes = join([outcomes_of(each, self.scenario.fps, window) for each in records])
        setting = Setting(plan.edges, self.config.deadline_s, window, self.config.prices)
        figures = (
            frame_figures(outcomes, setting)
            | resource_figures(samples, len(outcomes), setting, ours=self.server.pid is not None)
            | self._quality(records, window)
        )
        drops: dict[str, int] = {}
        for edge in edges:
            for reason, count in edge.drops().items():
                drops[reason] = drops.get(reason, 0) + count
        everything = [record for each in records for record in each]
        return Run(figures, outcomes, timeline_of(outcomes, samples, window, everything), drops)

    def _quality(self, records: Sequence[Sequence[Record]], window: Window) -> dict[str, float]:
        """Quality of the first edge's answers: all edges play the same pictures."""
        frames, _, _ = in_window(records[0], self.scenario.fps, window)
        found = {
            "agreement": self.reference.agreement(frames),
            "final_agreement": self.reference.agreement(frames, final=True),
            "accuracy": self.reference.accuracy(frames),
        }
        return {name: figure for name, figure in found.items() if figure is not None}


def _sleep_watching(seconds: float, edges: Sequence[EdgeProcess]) -> None:
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(_POLL_S, left_s))
        for edge in edges:
            edge.check()
