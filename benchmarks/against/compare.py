"""The comparison itself: both servers have their turn at each job and concurrency, in every round."""

import contextlib
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.progress import Progress

from benchmarks.against.jobs import Job, answered, write_jobs
from benchmarks.against.sides import Side, sides
from benchmarks.cloud.contenders import Contender
from benchmarks.cloud.load import Burst, LoadError, burst, find_h2load

_FIRST_REQUESTS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, against which commit."""

    commit: str
    concurrencies: tuple[int, ...]
    rounds: int
    burst_s: float


@dataclass(frozen=True, slots=True)
class Row:
    """One job at one concurrency: processor time of the servers a request, medians over the rounds.

    `ratio` is the median of the rounds' own ratios, new over old: what slows a whole round down (other
    programs, the clock of the processor) slows both of its bursts.
    """

    job: str
    concurrency: int
    old_cpu_ms: float
    new_cpu_ms: float
    ratio: float
    ratios: tuple[float, ...]
    goal: float | None = None
    """At most this ratio is wanted."""


def compare(plan: Plan) -> tuple[list[Row], bool]:
    """Measure; also tells whether both sides ran in the same environment.

    Raises:
        LoadError: h2load is missing, or a request failed.
        AgainstError, NotHereError: the older side does not run here.
    """
    find_h2load()
    with tempfile.TemporaryDirectory(prefix="bench-against-") as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        pair = sides(plan.commit, work)
        repository, jobs = write_jobs(work)
        servers = [stack.enter_context(side.server(repository, work)) for side in pair]
        return list(_measure(plan, jobs, servers)), _is_shared(pair)


def _is_shared(pair: Sequence[Side]) -> bool:
    return len({side.python for side in pair}) == 1


def _measure(plan: Plan, jobs: Sequence[Job], servers: Sequence[Contender]) -> Iterator[Row]:
    cells = [(job, concurrency) for job in jobs for concurrency in plan.concurrencies]
    found: defaultdict[tuple[Job, int], list[tuple[float, float]]] = defaultdict(list)
    with Progress(transient=True) as progress:
        task = progress.add_task("bench-against", total=(plan.rounds + 1) * len(cells))
        counts: dict[tuple[Job, int], int] = {}
        for cell in cells:
            counts[cell] = min(_warm(one, *cell, plan.burst_s) for one in servers)
            progress.advance(task)
        for _ in range(plan.rounds):
            for cell in cells:
                # Old, new, new, old: what drifts meanwhile is in both sums.
                turns = [_cpu_ms(one, *cell, counts[cell]) for one in (*servers, *reversed(servers))]
                found[cell].append(((turns[0] + turns[3]) / 2, (turns[1] + turns[2]) / 2))
                progress.advance(task)
    for (job, concurrency), pairs in found.items():
        yield replace(row(job.about, concurrency, pairs), goal=job.goals.get(concurrency))


def row(job: str, concurrency: int, pairs: Sequence[tuple[float, float]]) -> Row:
    """The medians of `pairs`, one of each round: processor time a request of old and new."""
    ratios = tuple(new / old for old, new in pairs)
    return Row(
        job,
        concurrency,
        old_cpu_ms=statistics.median(old for old, _ in pairs),
        new_cpu_ms=statistics.median(new for _, new in pairs),
        ratio=statistics.median(ratios),
        ratios=ratios,
    )


def _warm(server: Contender, job: Job, concurrency: int, burst_s: float) -> int:
    """How many requests fill a burst, from one that also warms the server up."""
    requests = max(_FIRST_REQUESTS, concurrency)
    done = _burst(server, job, concurrency, requests)
    return max(int(done.rate * burst_s), requests)


def _cpu_ms(server: Contender, job: Job, concurrency: int, requests: int) -> float:
    """Milliseconds of processor time a request. Raises LoadError unless each has its answer."""
    before = answered(server.address, job.network)
    done = _burst(server, job, concurrency, requests)
    if (rows := answered(server.address, job.network) - before) != requests:
        raise LoadError(f"{server.name}: of {requests} requests for {job.about} {rows} were answered")
    return done.cpu_ms


def _burst(server: Contender, job: Job, concurrency: int, requests: int) -> Burst:
    return burst(
        server.address, job.body, requests, concurrency, server.processes(), job.method,
        equal_answers=job.equal_answers,
    )  # fmt: skip
