"""A generator: some worker processes on this machine, and the link between them and the server."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Protocol

import msgspec

from spillover.common.errors import SpilloverError
from spillover.common.processes import bound
from spillover.lab.loadtest.links import links_of
from spillover.lab.loadtest.outcomes import join
from spillover.lab.loadtest.simulated.job import (
    GeneratorResult,
    Job,
    encode_job,
    pack_outcomes,
    unpack_outcomes,
)
from spillover.lab.shaper.proxy import ShapedProxy, Traffic, shaped

_EDGES_A_PROCESS = 250
_LIMIT_S = 120.0
"""Beyond warm-up and window: connecting a thousand edges over a slow link, and the last answers."""


class GeneratorFailedError(SpilloverError):
    """A generator process ended early or did not answer."""


class Generator(Protocol):
    """Plays one job."""

    def go(self, begin_unix_s: float) -> GeneratorResult:
        """Begin the warm-up at `begin_unix_s`; returns when every call has ended."""
        ...

    def abort(self) -> None:
        """End a `go` that is under way on another thread, which then fails."""
        ...


class LocalGenerator:
    """Worker processes that are connected and wait for the start."""

    def __init__(self, job: Job, workers: Sequence["_Worker"], proxy: ShapedProxy) -> None:
        self._job = job
        self._workers = workers
        self.proxy = proxy
        self._aborted = threading.Event()

    def go(self, begin_unix_s: float) -> GeneratorResult:
        """Play the job. Raises GeneratorFailedError."""
        up_before = self.proxy.traffic.up_bytes
        for worker in self._workers:
            worker.write(b"%r\n" % begin_unix_s)
        before, after = self._watch_window(begin_unix_s)
        results = [worker.result() for worker in self._workers]
        return GeneratorResult(
            outcomes=pack_outcomes(join([unpack_outcomes(result.outcomes) for result in results])),
            cpu_s=sum(result.cpu_s for result in results),
            shaper_cpu_s=after[1] - before[1],
            run_up_bytes=self.proxy.traffic.up_bytes - up_before,
            run_payload_bytes=sum(result.run_payload_bytes for result in results),
            up_bytes=after[0].up_bytes - before[0].up_bytes,
            down_bytes=after[0].down_bytes - before[0].down_bytes,
            begin_unix_s=begin_unix_s,
            delays_s=[delay_s for result in results for delay_s in result.delays_s],
        )

    def abort(self) -> None:
        """Kill the workers, which ends every wait for them."""
        self._aborted.set()
        for worker in self._workers:
            worker.kill()

    def _watch_window(self, begin_unix_s: float) -> list[tuple[Traffic, float]]:
        """Traffic over the link and the shaper's CPU seconds, at the window's beginning and at its end."""
        readings = []
        for at_s in (self._job.warm_up_s, self._job.warm_up_s + self._job.window_s):
            self._aborted.wait(max(0.0, begin_unix_s + at_s - time.time()))
            traffic = self.proxy.traffic
            copy = Traffic(traffic.up_bytes, traffic.down_bytes, traffic.connections)
            readings.append((copy, self.proxy.cpu_s()))
        return readings


@contextlib.contextmanager
def local_generator(job: Job) -> Iterator[LocalGenerator]:
    """Workers for `job`, all connected when the block begins.

    Raises:
        GeneratorFailedError: a worker could not connect its edges.
    """
    data, limit_s = encode_job(job), job.warm_up_s + job.window_s + _LIMIT_S
    with contextlib.ExitStack() as stack:
        # A simulated edge has one connection: if no two share a link, one address serves all.
        links = links_of(job.edges, job.share) if job.share > 1 else 0
        proxy = stack.enter_context(shaped(job.server, job.schedule, links))
        parts = _parts(job)
        workers = [stack.enter_context(_worker(proxy.addresses, part, data, limit_s)) for part in parts]
        try:
            for worker in workers:
                worker.wait_until_ready()
        except GeneratorFailedError as error:
            told = f"; the link's proxy says: {proxy.complaints[0]}" if proxy.complaints else ""
            raise GeneratorFailedError(f"{error}{told}") from error
        yield LocalGenerator(job, workers, proxy)


def processes_for(edges: int) -> int:
    """How many processes play so many edges."""
    return min(-(-edges // _EDGES_A_PROCESS), os.cpu_count() or 1)


def _parts(job: Job) -> list[range]:
    """The job's edges dealt out evenly over the processes."""
    processes = job.processes or processes_for(job.edges)
    bounds = [job.first_edge + job.edges * i // processes for i in range(processes + 1)]
    return [range(a, b) for a, b in itertools.pairwise(bounds) if b > a]


class _Worker:
    """One process of `lab.loadtest.simulated.worker`."""

    def __init__(self, process: "subprocess.Popen[bytes]", stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self._process = process
        self._stdin = stdin
        self._stdout = stdout

    def write(self, data: bytes) -> None:
        """Write bytes to it."""
        try:
            self._stdin.write(data)
            self._stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def kill(self) -> None:
        """End it at once; reads from it return the end of the stream."""
        self._process.kill()

    def wait_until_ready(self) -> None:
        """Wait for its edges to be connected, within the limit of the worker itself."""
        if self._stdout.readline() != b"ready\n":
            raise self._failed()

    def result(self) -> GeneratorResult:
        """Its measurements, within the limits of the worker itself."""
        size = self._stdout.readline()
        if not size.strip().isdigit():
            raise self._failed()
        return msgspec.msgpack.decode(self._stdout.read(int(size)), type=GeneratorResult)

    def _failed(self) -> GeneratorFailedError:
        self._process.kill()
        _, errors = self._process.communicate()
        lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
        # The last line is the cause: the message that it left with, or that of its traceback.
        return GeneratorFailedError(
            f"a generator process failed: {lines[-1] if lines else 'it said nothing'}"
        )


@contextlib.contextmanager
def _worker(addresses: Sequence[str], edges: range, data: bytes, limit_s: float) -> Iterator[_Worker]:
    module = "spillover.lab.loadtest.simulated.worker"
    command = [sys.executable, "-m", module, str(edges.start), str(edges.stop)]
    pipe = subprocess.PIPE
    with subprocess.Popen(bound(command, signal.SIGKILL), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        watchdog = threading.Timer(limit_s, process.kill)
        watchdog.start()
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101
        try:
            worker = _Worker(process, process.stdin, process.stdout)
            worker.write(b"%s\n%d\n" % (" ".join(addresses).encode(), len(data)) + data)
            yield worker
        finally:
            watchdog.cancel()
            process.kill()
