"""One run of one cell with simulated edges: connect them all, warm up, measure the steady window."""

import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from spillover.lab.loadtest.cells import CellPlan
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.edges import edge_of
from spillover.lab.loadtest.figures import (
    Carried,
    FigureContext,
    frame_figures,
    resource_figures,
    timeline_of,
)
from spillover.lab.loadtest.links import links_of
from spillover.lab.loadtest.outcomes import Outcomes, Window, join, percentile_ms
from spillover.lab.loadtest.real import Run
from spillover.lab.loadtest.sampling import Sampler, clipped
from spillover.lab.loadtest.server import Server
from spillover.lab.loadtest.simulated.generator import Generator, LocalGenerator, local_generator
from spillover.lab.loadtest.simulated.job import GeneratorResult, Job, unpack_outcomes
from spillover.lab.loadtest.simulated.recording import Recording
from spillover.lab.loadtest.simulated.remote import remote_generator
from spillover.lab.shaper.link import Schedule

TOKEN_VARIABLE = "SPILLOVER_LOADTEST_TOKEN"  # noqa: S105 - the name of a variable
_HEAD_START_S = 0.3
"""From the call to the beginning, so that every generator gets the call in time."""


@dataclass(frozen=True, slots=True)
class Load:
    """Rate, times and share sent: of a scenario, or of one probe of a capacity search."""

    fps: float
    warm_up_s: float
    window_s: float
    offload_share: float | None


@dataclass(frozen=True, slots=True)
class SimulatedBench:
    """Runs cells of one scenario with simulated edges."""

    config: LoadConfig
    load: Load
    server: Server
    recordings: dict[str, Recording]
    """By mode."""

    def run(self, plan: CellPlan, schedule: Schedule) -> Run:
        """One run of `plan`. Raises GeneratorFailedError."""
        jobs = self._jobs(plan, schedule)
        with contextlib.ExitStack() as stack:
            generators = [self._generator(job, where, stack) for job, where in jobs]
            local = next((g for g in generators if isinstance(g, LocalGenerator)), None)
            sampler = Sampler(self.server, [], local.proxy if local else None)
            begin_s = time.time() + _HEAD_START_S
            with sampler, ThreadPoolExecutor(len(generators)) as pool:
                calls = [pool.submit(generator.go, begin_s) for generator in generators]
                try:
                    results = [call.result() for call in calls]
                except BaseException:  # Ctrl-C too: the pool would wait for the others' whole window
                    for generator in generators:
                        generator.abort()
                    raise
        start_s = begin_s + self.load.warm_up_s
        return self._evaluate(plan, results, sampler, Window(start_s, start_s + self.load.window_s))

    def _evaluate(
        self, plan: CellPlan, results: Sequence[GeneratorResult], sampler: Sampler, window: Window
    ) -> Run:
        samples = clipped(sampler.samples, window.begin_s, window.end_s)
        outcomes = join([_by_our_clock(result, window, self.load.warm_up_s) for result in results])
        context = FigureContext(plan.edges, self.config.deadline_s, window)
        carried = Carried(sum(r.run_up_bytes for r in results), sum(r.run_payload_bytes for r in results))
        resources = resource_figures(samples, outcomes, context, carried, ours=self.server.pid is not None)
        figures = frame_figures(outcomes, context) | resources | _generator_figures(results, plan, window)
        figures |= _link_figures(results, outcomes, carried, plan, window)
        return Run(figures, outcomes, timeline_of(outcomes, samples, window), {})

    def _jobs(self, plan: CellPlan, schedule: Schedule) -> list[tuple[Job, str]]:
        """A job for each generator, and its address; an empty one is this machine."""
        recording, load = self.recordings[plan.mode], self.load
        edge = edge_of(self.config, plan.mode)
        where = self.config.generators or ("",)
        share = self.config.links[plan.link].share
        links = links_of(plan.edges, share)
        bounds = [min(plan.edges, links * i // len(where) * share) for i in range(len(where) + 1)]
        return [
            (
                Job(
                    server=self.server.address,
                    schedule=schedule,
                    first_edge=first,
                    edges=end - first,
                    fps=load.fps,
                    warm_up_s=load.warm_up_s,
                    window_s=load.window_s,
                    deadline_s=edge.deadline_s,
                    margin_s=edge.deadline_margin_s,
                    late_window_s=edge.uplink.late_answer_window_s,
                    max_in_flight=edge.uplink.max_in_flight,
                    breaker_failures=edge.uplink.breaker_failures,
                    breaker_pause_max_s=edge.uplink.breaker_pause_max_s,
                    model_name=edge.uplink.model_name,
                    model_version=edge.uplink.model_version,
                    max_classes=edge.uplink.max_classes,
                    log=recording.log,
                    payloads=recording.payloads,
                    offload_share=load.offload_share,
                    share=share,
                    forecast=edge.uplink.forecast,
                ),
                address,
            )
            for address, first, end in zip(where, bounds, bounds[1:], strict=False)
            if end > first
        ]

    @staticmethod
    def _generator(job: Job, address: str, stack: contextlib.ExitStack) -> Generator:
        if not address:
            return stack.enter_context(local_generator(job))
        token = os.environ.get(TOKEN_VARIABLE, "")
        return stack.enter_context(remote_generator(address, job, token))


def _by_our_clock(result: GeneratorResult, window: Window, warm_up_s: float) -> Outcomes:
    """The outcomes with due times by this machine's clock; another host's clock may differ."""
    outcomes = unpack_outcomes(result.outcomes)
    shift_s = window.begin_s - warm_up_s - result.begin_unix_s
    return replace(outcomes, intended_s=outcomes.intended_s + shift_s)


def _link_figures(
    results: Sequence[GeneratorResult], outcomes: Outcomes, carried: Carried, plan: CellPlan, window: Window
) -> dict[str, float]:
    """Traffic over the links, counted where they were shaped."""
    up = carried.up_bytes_of(outcomes, sum(r.up_bytes for r in results))
    down, frames = sum(r.down_bytes for r in results), len(outcomes)
    per_day = 86_400 / window.length_s / plan.edges / 1e6
    return {
        "up_bytes_per_frame": up / max(1, frames),
        "down_bytes_per_frame": down / max(1, frames),
        "up_mb_per_day": up * per_day,
        "down_mb_per_day": down * per_day,
    }


def _generator_figures(
    results: Sequence[GeneratorResult], plan: CellPlan, window: Window
) -> dict[str, float]:
    cores = sum(result.cpu_s for result in results) / window.length_s
    delays_s = np.array([delay_s for result in results for delay_s in result.delays_s])
    return {
        "generator_cpu_share": cores,
        "generator_cpu_share_per_100_edges": cores / plan.edges * 100,
        "generator_delay_p99_ms": percentile_ms(delays_s, 99) or 0.0,
        "shaper_cpu_share": sum(result.shaper_cpu_s for result in results) / window.length_s,
    }
