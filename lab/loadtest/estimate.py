"""What a test will take, before anything runs: time, processes, and file descriptors."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from spillover.common.errors import SourceError
from spillover.edge.camera.folder import is_image
from spillover.lab.data.labelled import IMAGES_FOLDER
from spillover.lab.loadtest.budgets import steady_budget
from spillover.lab.loadtest.config import CapacityConfig, EdgeKind, LoadConfig, ScenarioConfig
from spillover.lab.loadtest.real import LATE_ANSWERS_S
from spillover.lab.loadtest.reference import SEQUENCE_PICTURES, expand_source
from spillover.lab.loadtest.simulated.generator import processes_for
from spillover.lab.terminal import lasting

_START_AND_STOP_S, _EACH_EDGE_S = 2.0, 0.3
"""Of a run of real edges, measured on two cores."""
_CONNECT_S, _EACH_SIMULATED_S = 4.0, 0.005
_REFERENCE_S = 0.03
"""The cloud's model on one picture."""
_UNKNOWN_PICTURES = 300


@dataclass(slots=True)
class Estimate:
    """Seconds of each part, and what runs at once at the most."""

    parts: dict[str, float] = field(default_factory=dict)
    processes: int = 0
    most_simulated: int = 0
    """Simulated edges, each of which holds a connection."""

    def text(self) -> str:
        """For the terminal."""
        total = lasting(sum(self.parts.values()))
        parts = ", ".join(f"{name} {lasting(seconds)}" for name, seconds in self.parts.items())
        return f"This will take about {total}: {parts}. At most {self.processes} processes run at once."


def estimate(config: LoadConfig, scenarios: Sequence[str]) -> Estimate:
    """What these scenarios take, and the searches in them; a third more or less is usual."""
    made, pictures = Estimate(), functools.cache(_pictures)
    cloud_model = {name: config.with_pair_of(config.scenarios[name]).cloud_model for name in scenarios}
    servers = 0 if config.cloud.address else len(set(cloud_model.values()))
    played = {
        (source, cloud_model[name]): pictures(source)
        for name in scenarios
        for source in config.played_by(config.scenarios[name]).all_sources
    }
    made.parts["reference answers"] = sum(played.values()) * _REFERENCE_S
    for name in scenarios:
        scenario = config.scenarios[name]
        every = [(mode, edges) for mode in scenario.modes for edges in scenario.edges]
        most = max(scenario.edges)
        if scenario.kind is EdgeKind.REAL:
            pass_s = max(map(pictures, scenario.all_sources)) / scenario.fps
            runs_s = [_real_s(config, scenario, mode, edges, pass_s) for mode, edges in every]
            _count(made, servers, real=most)
        else:
            runs_s = [_simulated_s(scenario.warm_up_s, scenario.window_s, edges) for _, edges in every]
            _count(made, servers, simulated=most)
        made.parts[name] = sum(runs_s) * len(scenario.links) * scenario.repeats
    for search in config.capacity:
        if search.scenario in scenarios:
            made.parts["capacity"] = made.parts.get("capacity", 0.0) + _search_s(config, search)
            _count(made, servers, simulated=search.max_edges)
    return made


def _count(made: Estimate, servers: int, *, real: int = 0, simulated: int = 0) -> None:
    generators = processes_for(simulated) if simulated else 0
    made.processes = max(made.processes, servers + real + generators + 1)
    made.most_simulated = max(made.most_simulated, simulated)


def _real_s(config: LoadConfig, scenario: ScenarioConfig, mode: str, edges: int, pass_s: float) -> float:
    budget, warm_up_s = steady_budget(config.with_pair_of(scenario), mode), scenario.warm_up_s
    if budget:
        warm_up_s = budget.warm_up_s(scenario.fps, pass_s, warm_up_s)
    return warm_up_s + (scenario.window_s or pass_s) + _around_s(config, edges)


def _around_s(config: LoadConfig, edges: int) -> float:
    return _START_AND_STOP_S + _EACH_EDGE_S * edges + config.deadline_s + LATE_ANSWERS_S


def _simulated_s(warm_up_s: float, window_s: float | None, edges: int) -> float:
    return warm_up_s + (window_s or 0.0) + _CONNECT_S + _EACH_SIMULATED_S * edges


def _search_s(config: LoadConfig, search: CapacityConfig) -> float:
    """Two windows a number while they hold, and two to three for each halving of the rest."""
    scenario = config.scenarios[search.scenario]
    numbers = [search.first_edges]
    while numbers[-1] < search.max_edges:
        numbers.append(min(2 * numbers[-1], search.max_edges))
    halvings = max(0, math.ceil(math.log2(0.5 / search.precision)))
    windows = [edges for edges in numbers for _ in range(2)] + [search.max_edges] * round(2.5 * halvings)
    searches = len(scenario.links) * len(scenario.modes)
    return searches * sum(_simulated_s(scenario.warm_up_s, search.window_s, edges) for edges in windows)


def _pictures(source: str) -> int:
    """About how many pictures a source has, without decoding them."""
    try:
        path = Path(expand_source(source))
    except SourceError:
        return _UNKNOWN_PICTURES
    folder = next(
        (below for name in (SEQUENCE_PICTURES, IMAGES_FOLDER) if (below := path / name).is_dir()), path
    )
    if folder.is_dir():
        return max(1, sum(is_image(one) for one in folder.iterdir()))
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count if count > 0 else _UNKNOWN_PICTURES
