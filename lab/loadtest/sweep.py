"""Sweeps a key of edge.yaml over values, modes and links: the Pareto front, and a recommended point."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import yaml

from spillover.common.errors import SourceError
from spillover.lab.files import merged, nested, write_yaml
from spillover.lab.loadtest.cells import CellPlan, interleaved
from spillover.lab.loadtest.config import LoadConfig, SweepConfig
from spillover.lab.loadtest.edges import edge_config
from spillover.lab.loadtest.real import RealBench
from spillover.lab.loadtest.results import Sweep, SweepPoint
from spillover.lab.loadtest.scenarios import Scenarios

DEFAULT_ADDRESS = "127.0.0.1:50051"
GOOD_ENOUGH = 0.01
"""The cheapest point whose quality is within this of the best one is recommended."""


def run_sweep(config: SweepConfig, scenarios: Scenarios) -> Sweep:
    """Run every point once.

    Raises:
        SourceError: neither labels nor a reference judge the scenario's answers.
        SpilloverError: a process failed.
    """
    test = scenarios.config
    scenario = msgspec.structs.replace(test.scenarios[config.scenario], window_s=config.window_s)
    labels = {(mode, value): f"{mode}-{value:g}" for mode in config.modes for value in config.values}
    bench = scenarios.real(scenario, with_swept_modes(test, config))
    points: list[SweepPoint] = []
    quality = ""
    turns = [(link, mode, value) for mode, value in labels for link in scenario.links]
    for _, (link, mode, value) in scenarios.progress.track(
        list(interleaved(turns, 1)), f"sweep of {config.key}: {len(turns)} points"
    ):
        plan = CellPlan(f"sweep-{config.scenario}", labels[mode, value], link, 1)
        figures = bench.run(plan, scenarios.schedule(link), scenarios.out / plan.folder).figures
        quality = next((name for name in ("accuracy", "agreement") if name in figures), "")
        if not quality:
            raise SourceError(f"sweep: nothing judges the answers of scenario {config.scenario}")
        cost, worth = figures["up_bytes_per_frame"], figures[quality]
        shares = {name: figures[name] for name in ("on_time_share", "degraded_share")}
        points.append(SweepPoint(link, mode, value, cost, worth, on_front=False, **shares))
    points = mark_front(points)
    recommended = recommend(points, config)
    folders = {
        link: _write_files(points[number], labels, bench, scenarios.out)
        for link, number in recommended.items()
    }
    return Sweep(config.scenario, config.key, quality, points, recommended, folders)


def with_swept_modes(test: LoadConfig, config: SweepConfig) -> LoadConfig:
    """The test with a mode `MODE-VALUE` beside each mode for each value of the swept key."""
    modes = {
        f"{mode}-{value:g}": merged(test.modes[mode], nested(config.key, value))
        for mode in config.modes
        for value in config.values
    }
    return msgspec.structs.replace(test, modes=test.modes | modes)


def mark_front(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """The same points; those that no other of their link beats in bytes and quality are on the front."""

    def beaten(point: SweepPoint) -> bool:
        return any(
            other.link == point.link
            and other.bytes_per_frame <= point.bytes_per_frame
            and other.quality >= point.quality
            and (other.bytes_per_frame < point.bytes_per_frame or other.quality > point.quality)
            for other in points
        )

    return [msgspec.structs.replace(point, on_front=not beaten(point)) for point in points]


def recommend(points: Sequence[SweepPoint], config: SweepConfig) -> dict[str, int]:
    """By link, the number of a point: the cheapest within the limits that is as good as the best."""
    chosen = {}
    for link in dict.fromkeys(point.link for point in points):
        allowed = [
            (number, point)
            for number, point in enumerate(points)
            if point.link == link
            and point.on_time_share >= config.min_on_time_share
            and (config.max_bytes_per_frame is None or point.bytes_per_frame <= config.max_bytes_per_frame)
        ]
        if allowed:
            best = max(point.quality for _, point in allowed)
            good = [(number, point) for number, point in allowed if point.quality >= best - GOOD_ENOUGH]
            chosen[link] = min(good, key=lambda numbered: numbered[1].bytes_per_frame)[0]
    return chosen


def _write_files(point: SweepPoint, labels: dict[tuple[str, float], str], bench: RealBench, out: Path) -> str:
    """Write the edge.yaml of that point, and put the server's cloud.yaml beside it."""
    folder = out / "recommended" / point.link
    folder.mkdir(parents=True, exist_ok=True)
    forced = {
        "camera": {"source": bench.references[0].camera_source},
        "uplink": {"address": bench.config.cloud.address or DEFAULT_ADDRESS},
    }
    edge = edge_config(bench.config, labels[point.mode, point.value], forced)
    write_yaml(folder / "edge.yaml", edge)
    if bench.server.folder is not None:
        cloud = yaml.safe_load((bench.server.folder / "cloud.yaml").read_text(encoding="utf-8"))
        write_yaml(folder / "cloud.yaml", merged(cloud, {"listen": DEFAULT_ADDRESS}))
    return str(folder)
