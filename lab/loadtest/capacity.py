"""Searches for the most simulated edges that a server holds: doubles until it fails, then bisects."""

from collections.abc import Callable

from spillover.lab.loadtest.cells import CellPlan
from spillover.lab.loadtest.config import CapacityConfig
from spillover.lab.loadtest.results import Capacity, Probe
from spillover.lab.loadtest.scenarios import Scenarios
from spillover.lab.loadtest.simulated.bench import Load, SimulatedBench
from spillover.lab.loadtest.simulated.generator import GeneratorFailedError
from spillover.lab.shaper.link import Schedule


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
            held = max((p.edges for p in probes if p.held), default=0)
            failed = min((p.edges for p in probes if p.edges > held), default=None)
            searches.append(Capacity(config.scenario, mode, link, config.on_time_share, held, failed, probes))
    return searches


def _probe(bench: SimulatedBench, plan: CellPlan, schedule: Schedule, goal_share: float) -> Probe:
    """Try one number of edges; edges that cannot connect count as not held."""
    try:
        figures = bench.run(plan, schedule).figures
    except GeneratorFailedError as error:
        return Probe(plan.edges, 0.0, 0.0, 0, held=False, note=str(error))
    share = figures.get("wanted_in_time_share", 1.0)  # nothing wanted, nothing late
    lost = int(figures["lost"])
    return Probe(plan.edges, share, figures["sent_per_s"], lost, share >= goal_share and not lost)


def bisect(probe: Callable[[int], Probe], first: int, most: int, precision: float) -> list[Probe]:
    """Try numbers of edges until the largest held and the smallest failed are within `precision`.

    A number that fails is tried once more before it counts as failed, so that one disturbance of the machine
    does not end the search too low.
    """
    probes: list[Probe] = []

    def holds(edges: int) -> bool:
        for _ in range(2):
            probes.append(probe(edges))
            if probes[-1].held:
                return True
        return False

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
