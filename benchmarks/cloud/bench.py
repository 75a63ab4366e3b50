"""The run itself: in every round each contender has its turn at each network and concurrency."""

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from rich.progress import Progress

from benchmarks.cloud.contenders import Contender, NotHereError, Start, spillover
from benchmarks.cloud.engine import Engine
from benchmarks.cloud.load import Burst, LoadError, ask_once, burst, find_h2load, write_body
from benchmarks.cloud.mlserver import mlserver
from benchmarks.cloud.networks import NETWORKS, NetworkSpec, write_networks
from benchmarks.cloud.triton import triton
from spillover.common.errors import InvalidInputError
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import Tensor

STARTS: Mapping[str, Start] = {"spillover": spillover, "triton": triton, "mlserver": mlserver}

_FIRST_REQUESTS = 40
_MAX_REQUESTS = 50_000
_GROWTH_REQUESTS = 100_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    contenders: tuple[str, ...]
    concurrencies: tuple[int, ...]
    rounds: int
    burst_s: float
    engine: Engine
    growth: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """One contender at one network and concurrency: medians over the rounds.

    `of_raw` is the median over the rounds of its rate over the bare loop's in the same round, the bare loop
    running single rows; `of_raw_batched` is against its rate at the largest batch.
    """

    contender: str
    network: str
    concurrency: int
    rate: float
    of_raw: float
    of_raw_batched: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """All figures of one run; `missing` says why a contender is not among them."""

    cells: tuple[Cell, ...]
    memory_mb: Mapping[str, float]
    missing: Mapping[str, str]
    growth_mb: float | None
    """What the server's memory grew by over the second half of 100 000 requests."""


def run(plan: Plan) -> Outcome:
    """Measure. Raises LoadError without h2load, or when requests fail under load."""
    find_h2load()
    with tempfile.TemporaryDirectory(prefix="bench-cloud-") as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        repository = work / "networks"
        write_networks(repository)
        contenders, missing = _start(plan, repository, work, stack)
        raw = stack.enter_context(_raw_loop(repository, plan.engine))
        cells = _measure(plan, contenders, raw, work)
        memory_mb = {one.name: one.memory_mb() for one in contenders}
        growth_mb = _growth(contenders, work) if plan.growth else None
        return Outcome(tuple(cells), memory_mb, missing, growth_mb)


def _start(
    plan: Plan, repository: Path, work: Path, stack: contextlib.ExitStack
) -> tuple[list[Contender], dict[str, str]]:
    """The contenders that run here and answer rightly, and why the others are not among them."""
    contenders: list[Contender] = []
    missing: dict[str, str] = {}
    expected = _expected(repository)
    for name in plan.contenders:
        try:
            one = stack.enter_context(STARTS[name](repository, work, plan.engine))
            _check_values(one, expected, plan.engine.tolerance)
            contenders.append(one)
        except NotHereError as error:
            missing[name] = str(error)
    return contenders, missing


def _expected(repository: Path) -> dict[str, Tensor]:
    """What each network answers for its sample, computed here."""
    config = SessionConfig(providers=("CPUExecutionProvider",))
    answers = {}
    for spec in NETWORKS.values():
        runtime = open_runtime(repository / spec.name / "1" / MODEL_FILE, config)
        (answers[spec.name],) = runtime.run([spec.sample()])
    return answers


def _check_values(one: Contender, expected: Mapping[str, Tensor], tolerance: float) -> None:
    """A server that answers other values, or none, is not measured: the comparison would be of nothing."""
    for name, values in expected.items():
        try:
            answer = ask_once(one.address, NETWORKS[name])
        except (InvalidInputError, grpc.RpcError) as error:
            raise NotHereError(f"{one.name} fails on {name}: {error}") from error
        if answer.shape != values.shape or not np.allclose(
            answer, values, rtol=tolerance, atol=tolerance * float(np.abs(values).max())
        ):
            raise NotHereError(f"{one.name} answers other values on {name}")


RawRate = Callable[[NetworkSpec, int, float], float]


def _measure(plan: Plan, contenders: Sequence[Contender], raw: RawRate, work: Path) -> list[Cell]:
    bursts: defaultdict[tuple[str, str, int], list[tuple[Burst, float, float]]] = defaultdict(list)
    requests: dict[tuple[str, str, int], int] = {}
    steps = plan.rounds * len(NETWORKS) * len(plan.concurrencies)
    with Progress(transient=True) as progress:
        task = progress.add_task("bench-cloud", total=steps)
        for _ in range(plan.rounds):
            for spec in NETWORKS.values():
                body = work / f"{spec.name}.body"
                write_body(spec, body)
                for concurrency in plan.concurrencies:
                    single = raw(spec, 1, plan.burst_s)
                    batched = raw(spec, spec.max_batch_size, plan.burst_s)
                    for one in contenders:
                        key = (one.name, spec.name, concurrency)
                        count = requests.get(key) or _calibrate(one, body, concurrency, plan.burst_s)
                        requests[key] = count
                        done = burst(one.address, body, count, concurrency, one.processes())
                        bursts[key].append((done, done.rate / single, done.rate / batched))
                    progress.advance(task)
    return [_cell(*key, found) for key, found in bursts.items()]


def _calibrate(one: Contender, body: Path, concurrency: int, burst_s: float) -> int:
    """How many requests fill a burst, from a first one that also warms the server up."""
    first = burst(one.address, body, max(_FIRST_REQUESTS, concurrency), concurrency, one.processes())
    return int(min(max(first.rate * burst_s, _FIRST_REQUESTS, concurrency), _MAX_REQUESTS))


def _cell(contender: str, network: str, concurrency: int, found: list[tuple[Burst, float, float]]) -> Cell:
    def median(of: Callable[[tuple[Burst, float, float]], float]) -> float:
        return statistics.median(map(of, found))

    return Cell(
        contender,
        network,
        concurrency,
        rate=median(lambda one: one[0].rate),
        of_raw=median(lambda one: one[1]),
        of_raw_batched=median(lambda one: one[2]),
        p50_ms=median(lambda one: one[0].p50_ms),
        p99_ms=median(lambda one: one[0].p99_ms),
        cpu_ms=median(lambda one: one[0].cpu_ms),
    )


def _growth(contenders: Sequence[Contender], work: Path) -> float | None:
    ours = next((one for one in contenders if one.name == "spillover"), None)
    if ours is None:
        return None
    half = _GROWTH_REQUESTS // 2
    sizes = []
    for _ in range(2):
        burst(ours.address, work / "identity.body", half, 16, ours.processes())
        sizes.append(ours.memory_mb())
    return sizes[1] - sizes[0]


@contextlib.contextmanager
def _raw_loop(repository: Path, engine: Engine) -> Iterator[RawRate]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.cloud.raw",
        str(repository),
        str(engine.threads),
        engine.device.value,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise LoadError("the bare loop has no pipes")
        asks, answers = process.stdin, process.stdout

        def rate(spec: NetworkSpec, batch: int, seconds: float) -> float:
            asks.write(f"{spec.name} {batch} {seconds}\n")
            asks.flush()
            return float(answers.readline())

        try:
            yield rate
        finally:
            asks.close()
            process.wait(30)
