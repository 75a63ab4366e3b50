"""One run of one cell with real edges: start, warm up, measure the steady window, stop, read the results."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from spillover.edge.payload.encoder import VIDEO
from spillover.edge.sinks.record import Record
from spillover.lab.daemons import EdgeProcess
from spillover.lab.files import write_whole
from spillover.lab.loadtest.baselines import is_pure_cloud
from spillover.lab.loadtest.budgets import SteadyBudget, steady_budget
from spillover.lab.loadtest.cells import CellPlan
from spillover.lab.loadtest.config import LoadConfig, ScenarioConfig
from spillover.lab.loadtest.edges import drops_of, edge_config, edges_running
from spillover.lab.loadtest.figures import (
    Carried,
    FigureContext,
    frame_figures,
    resource_figures,
    timeline_of,
)
from spillover.lab.loadtest.ideal import SharedLink, ideal_figures
from spillover.lab.loadtest.links import LinkMeter, Route, routes_to
from spillover.lab.loadtest.outcomes import Outcomes, Window, join, outcomes_of
from spillover.lab.loadtest.quality import over_edges, quality_figures
from spillover.lab.loadtest.reference import Reference
from spillover.lab.loadtest.results import Moment
from spillover.lab.loadtest.sampling import Sampler, clipped
from spillover.lab.loadtest.server import Server
from spillover.lab.loadtest.slow import Brake
from spillover.lab.shaper.link import Schedule

_POLL_S = 0.25
LATE_ANSWERS_S = 2.5
"""How long cameras go on after the window, so that its last frames get as much time as all others."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The outcome of one run."""

    figures: dict[str, float]
    outcomes: Outcomes
    timeline: list[Moment]
    drops: dict[str, int]
    videos_begun: int = 0
    """Edges whose video began inside the window: its first picture is whole, later ones are changes."""


@dataclass(frozen=True, slots=True)
class RealBench:
    """Runs cells of one scenario with real edges."""

    config: LoadConfig
    scenario: ScenarioConfig
    references: Sequence[Reference]
    """Of each source; edges play them in turn."""
    server: Server
    brake: Brake

    def run(self, plan: CellPlan, schedule: Schedule, folder: Path, *, kernel: bool = False) -> Run:
        """One run of `plan`; `kernel` paces its links.

        Raises:
            ProcessFailedError: an edge could not start, or ended early.
        """
        share = self.config.links[plan.link].share
        played, budget = self._played(plan.edges), steady_budget(self.config, plan.mode)
        with routes_to(self.server.address, schedule, plan.edges, share=share, kernel=kernel) as routes:
            folder.mkdir(parents=True, exist_ok=True)
            configs = [
                self._edge(plan, route, index, reference, folder, budget)
                for index, (route, reference) in enumerate(zip(routes.by_edge, played, strict=True))
            ]
            prefixes = [route.prefix for route in routes.by_edge]
            with edges_running(configs, folder, self.brake, prefixes) as edges:
                window, sampler = self._watch(edges, routes.meter, budget)
            up_bytes = routes.meter.traffic.up_bytes
            began_s = time.time() - (time.monotonic() - routes.meter.started_s)
        link = SharedLink(schedule, began_s, share)
        self._note(folder, played, window, sampler, up_bytes)
        return self._evaluate(plan, edges, played, window, sampler, up_bytes, link)

    def _played(self, edges: int) -> list[Reference]:
        """What each edge plays; those of one source begin at places of it that are spread evenly."""
        kinds = len(self.references)
        of_each = [self.references[edge % kinds] for edge in range(edges)]
        places = [(edge // kinds) * kinds / edges for edge in range(edges)]
        return [replace(one, skip=int(place * one.count)) for one, place in zip(of_each, places, strict=True)]

    def _watch(
        self, edges: Sequence[EdgeProcess], meter: LinkMeter, budget: SteadyBudget | None
    ) -> tuple[Window, Sampler]:
        warm_up_s = self.scenario.warm_up_s
        if budget:
            warm_up_s = budget.warm_up_s(self.scenario.fps, self._pass_s, warm_up_s)
        _sleep_watching(warm_up_s, edges)
        begin_s = time.time()
        with Sampler(self.server, [edge.process.pid for edge in edges], meter) as sampler:
            _sleep_watching(self._window_s, edges)
        _sleep_watching(self.config.deadline_s + LATE_ANSWERS_S, edges)
        return Window(begin_s, begin_s + self._window_s), sampler

    def _note(
        self, folder: Path, played: Sequence[Reference], window: Window, sampler: Sampler, up_bytes: int
    ) -> None:
        """Write run.json: what, beside the results of the edges, the figures of a run are made of."""
        raw = {
            "begin_unix_s": window.begin_s,
            "end_unix_s": window.end_s,
            "fps": self.scenario.fps,
            "deadline_s": self.config.deadline_s,
            "up_bytes": up_bytes,
            "references": [edge % len(self.references) for edge in range(len(played))],
            "skipped": [reference.skip for reference in played],
            "samples": sampler.samples,
        }
        write_whole(folder / "run.json", msgspec.json.encode(raw))

    @property
    def _window_s(self) -> float:
        return self.scenario.window_s or self._pass_s

    @property
    def _pass_s(self) -> float:
        """One pass over the longest source."""
        return max(reference.count for reference in self.references) / self.scenario.fps

    def _edge(
        self,
        plan: CellPlan,
        route: Route,
        index: int,
        played: Reference,
        folder: Path,
        budget: SteadyBudget | None,
    ) -> Mapping[str, Any]:
        forced: dict[str, Any] = {
            "device_id": f"loadtest-{index}",
            "camera": {
                "source": played.camera_source,
                "fps": self.scenario.fps,
                "loop": True,
                "pace": "realtime",
                "skip_frames": played.skip,
            },
            # The far end of a kernel link is in a namespace of this machine, and no loopback address.
            "uplink": {"address": route.address, "allow_plaintext_network": bool(route.prefix)},
            "policy": {"seed": index},
        }
        # What an edge keeps from one run to the next is the test's own, and of one run alone.
        if budget:
            forced["policy"] |= budget.begin(folder, index)
        if self.config.asked_of(plan.mode).get("spool"):
            forced["spool"] = {"path": str((folder / f"edge-{index}.spool").absolute())}
        return edge_config(self.config, plan.mode, forced)

    def _evaluate(
        self,
        plan: CellPlan,
        edges: Sequence[EdgeProcess],
        played: Sequence[Reference],
        window: Window,
        sampler: Sampler,
        up_bytes: int,
        link: SharedLink,
    ) -> Run:
        records = [edge.records() for edge in edges]
        runs = list(zip(records, played, strict=True))
        samples = clipped(sampler.samples, window.begin_s, window.end_s)
        outcomes = join([outcomes_of(of_edge, self.scenario.fps, window) for of_edge in records])
        carried = Carried(up_bytes, sum(sum(_payloads(of_edge).values()) for of_edge in records))
        context = FigureContext(plan.edges, self.config.deadline_s, window)
        figures = (
            frame_figures(outcomes, context)
            | resource_figures(samples, outcomes, context, carried, ours=self.server.pid is not None)
            | over_edges(
                [quality_figures(one, self.scenario.fps, window, reference) for one, reference in runs]
            )
        )
        if is_pure_cloud(self.config.asked_of(plan.mode)):
            figures |= ideal_figures(runs, self.scenario.fps, context, carried, link)
        timeline = timeline_of(outcomes, samples, window, list(itertools.chain(*records)))
        begun = sum(video_begins(of_edge, window) for of_edge in records)
        return Run(figures, outcomes, timeline, drops_of(edges), begun)


def video_begins(records: Sequence[Record], window: Window) -> bool:
    """Whether the first picture that an edge sent is of video, and of a frame inside the window."""
    first = min((one for one in records if one.payload_bytes), key=lambda one: one.sequence, default=None)
    if first is None or first.decision.payload != VIDEO:
        return False
    return window.begin_s <= first.captured_unix_s < window.end_s


def _payloads(records: Sequence[Record]) -> dict[int, int]:
    """Bytes by frame, of its last result."""
    return {record.sequence: record.payload_bytes for record in records}


def _sleep_watching(seconds: float, edges: Sequence[EdgeProcess]) -> None:
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(_POLL_S, left_s))
        for edge in edges:
            edge.check()
