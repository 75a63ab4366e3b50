"""Searches for the most simulated edges that a server holds: doubles until it fails, then bisects.

A number is held if it holds in `NEEDED` of `WINDOWS` windows, so that neither a lucky window nor one
disturbance of the machine decides.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Sequence

from spillover.lab.loadtest.cells import CellPlan
from spillover.lab.loadtest.config import CapacityConfig
from spillover.lab.loadtest.results import Capacity, Probe, this_host
from spillover.lab.loadtest.scenarios import Scenarios
from spillover.lab.loadtest.simulated.bench import Load, SimulatedBench
from spillover.lab.loadtest.simulated.generator import GeneratorFailedError
from spillover.lab.shaper.link import Schedule

WINDOWS = 3
NEEDED = 2


def search(config: CapacityConfig, scenarios: Scenarios, progress: Callable[[Probe], None]) -> list[Capacity]:
    """One search for each mode and link of the scenario; `progress` is called with every probe."""
    scenario = scenarios.config.scenarios[config.scenario]
    load = Load(config.fps or scenario.fps, scenario.warm_up_s, config.window_s, scenario.offload_share)
    bench = scenarios.simulated(scenario, scenario.modes, load)
    searches = []
    for link in scenario.links:
        for mode in scenario.modes:

            def probe(edges: int, mode: str = mode, link: str = link) -> Probe:
                plan = CellPlan(config.scenario, mode, link, edges)
                done = _probe(bench, plan, scenarios.schedule(link), config.on_time_share)
                progress(done)
                return done

            probes = bisect(probe, config.first_edges, config.max_edges, config.precision)
            held, failed = bounds_of(probes)
            searches.append(
                Capacity(
                    config.scenario,
                    mode,
                    link,
                    config.on_time_share,
                    held,
                    failed,
                    probes,
                    NEEDED,
                    WINDOWS,
                    cpu_limit_per_s(probes, this_host().cores),
                )
            )
    return searches


def _probe(bench: SimulatedBench, plan: CellPlan, schedule: Schedule, goal_share: float) -> Probe:
    """Try one number of edges; edges that cannot connect count as not held."""
    try:
        figures = bench.run(plan, schedule).figures
    except GeneratorFailedError as error:
        return Probe(plan.edges, 0.0, 0.0, 0, held=False, note=str(error))
    share = figures.get("wanted_in_time_share", 1.0)  # nothing wanted, nothing late
    lost, rate = int(figures["lost"]), figures["sent_per_s"]
    cpu_s = figures["server_cpu_share"] / rate if rate and "server_cpu_share" in figures else None
    return Probe(plan.edges, share, rate, lost, share >= goal_share and not lost, server_cpu_s=cpu_s)


def bounds_of(probes: Sequence[Probe]) -> tuple[int, int | None]:
    """The largest number that was held (0: none), and the smallest tried above it (None: none)."""
    windows = Counter(probe.edges for probe in probes if probe.held)
    held = max((edges for edges, count in windows.items() if count >= NEEDED), default=0)
    return held, min((probe.edges for probe in probes if probe.edges > held), default=None)


def cpu_limit_per_s(probes: Sequence[Probe], cores: int) -> float | None:
    """Requests a second that fill so many cores, by what one cost with the fewest edges; None if unknown."""
    known = [(probe.edges, probe.server_cpu_s) for probe in probes if probe.server_cpu_s]
    if not known:
        return None
    fewest = min(edges for edges, _ in known)
    return cores / statistics.median(cpu_s for edges, cpu_s in known if edges == fewest)


def bisect(probe: Callable[[int], Probe], first: int, most: int, precision: float) -> list[Probe]:
    """Try numbers of edges until the largest held and the smallest failed are within `precision`.

    Each is tried until `NEEDED` windows have held, or so many failed that they no longer can.
    """
    probes: list[Probe] = []

    def holds(edges: int) -> bool:
        held = failed = 0
        while held < NEEDED and failed <= WINDOWS - NEEDED:
            probes.append(probe(edges))
            held, failed = (held + 1, failed) if probes[-1].held else (held, failed + 1)
        return held >= NEEDED

    held, edges = 0, min(first, most)
    while holds(edges):
        held = edges
        if held >= most:
            return probes
        edges = min(2 * edges, most)
    failed = edges
    while failed - held > max(1, precision * failed):
        middle = (held + failed) // 2
        if holds(middle):
            held = middle
        else:
            failed = middle
    return probes
