"""The command `python -m benchmarks loop-lag`: how late hostile requests make the event loop."""

import asyncio
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

GOAL_MS = 50.0
_PERIOD_S = 0.001
_START_S = 60.0


@click.command("loop-lag")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Requests of each.")
def bench_loop_lag(rounds: int) -> None:
    """Send a server requests made to hold it up, and measure how late its event loop wakes meanwhile.

    The server is in this process, with a coroutine beside it that asks to be woken every millisecond; the
    client is another process. On a busy machine the loop is late without any request: compare with `nothing`.
    """
    from benchmarks.cloud.hostile import IDLE

    lags = asyncio.run(_measure(rounds))
    click.echo(f"{'':<28}{'status':<20}{'median ms':>10}{'worst ms':>10}")
    for lag in lags:
        click.echo(f"{lag.name:<28}{lag.status:<20}{lag.median_ms:>10.1f}{lag.worst_ms:>10.1f}")
    worst = max((lag for lag in lags if lag.name != IDLE), key=lambda lag: lag.worst_ms)
    met = "met   " if worst.worst_ms <= GOAL_MS else "MISSED"
    click.echo(f"{met}  lag of the event loop <= {GOAL_MS:.0f} ms: {worst.worst_ms:.1f} ms ({worst.name})")


@dataclass(frozen=True, slots=True)
class Lag:
    """The longest lag during each of several requests of one kind: median and worst of them."""

    name: str
    status: str
    worst_of_each_ms: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        """Of the longest lags."""
        return statistics.median(self.worst_of_each_ms)

    @property
    def worst_ms(self) -> float:
        """Of them all."""
        return max(self.worst_of_each_ms)


class Probe:
    """A coroutine that sleeps a millisecond at a time and remembers by how much it woke too late."""

    def __init__(self) -> None:
        self._worst_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            asleep_s = time.perf_counter()
            await asyncio.sleep(_PERIOD_S)
            self._worst_s = max(self._worst_s, time.perf_counter() - asleep_s - _PERIOD_S)

    async def worst_ms(self) -> float:
        """The longest lag since the last call, the present one included."""
        await asyncio.sleep(2 * _PERIOD_S)
        worst_s, self._worst_s = self._worst_s, 0.0
        return 1e3 * worst_s


async def _measure(rounds: int) -> list[Lag]:
    from benchmarks.cloud.hostile import IDLE, REQUESTS

    probe = Probe()
    async with _server() as address, _client(address) as client:
        probing = asyncio.create_task(probe.run())
        await _send(client, next(iter(REQUESTS)))  # the client is ready
        await probe.worst_ms()
        lags = [Lag(IDLE, "", [await _idle(probe) for _ in range(rounds)])]
        for name in REQUESTS:
            worst, status = [], ""
            for _ in range(rounds):
                status = await _send(client, name)
                worst.append(await probe.worst_ms())
            lags.append(Lag(name, status, worst))
        probing.cancel()
    return lags


async def _idle(probe: Probe) -> float:
    await asyncio.sleep(0.2)
    return await probe.worst_ms()


async def _send(client: Process, name: str) -> str:
    if client.stdin is None or client.stdout is None:
        raise RuntimeError("the client has no pipes")
    client.stdin.write(f"{name}\n".encode())
    return (await client.stdout.readline()).decode().strip()


@asynccontextmanager
async def _server() -> AsyncIterator[str]:
    import msgspec

    from benchmarks.cloud.hostile import write_networks
    from spillover.cloud.cli import SWITCH_INTERVAL_S
    from spillover.cloud.config import CloudConfig
    from spillover.cloud.server import Running, serve
    from spillover.common.log import configure_logging

    configure_logging("error", as_json=False)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    with tempfile.TemporaryDirectory(prefix="bench-lag-") as folder:
        write_networks(Path(folder))
        document = {"listen": "127.0.0.1:0", "metrics": None, "models": {"repository": folder}}

        def on_ready(server: Running) -> None:
            ready.set_result(server.address)

        serving = asyncio.create_task(serve(msgspec.convert(document, CloudConfig), stop, on_ready))
        await asyncio.wait({ready, serving}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        try:
            yield ready.result()
        finally:
            stop.set()
            await serving


@asynccontextmanager
async def _client(address: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.cloud.hostile", address, stdin=PIPE, stdout=PIPE
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()
