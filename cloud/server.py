"""The server's life: startup, serving, and an ordered stop. What is started last is stopped first."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache

import grpc.aio

from spillover.cloud.config import CloudConfig
from spillover.cloud.machine import machine_bytes
from spillover.cloud.models.loader import OpenModel
from spillover.cloud.models.repository import Repository
from spillover.cloud.models.trials import Trials
from spillover.cloud.rpc.call_wrapper import CallWrapper
from spillover.cloud.rpc.connections.keeper import Connections
from spillover.cloud.rpc.health import Health
from spillover.cloud.rpc.listening import bind, channel_options
from spillover.cloud.rpc.methods import methods_of
from spillover.cloud.rpc.oip_servicer import OpenInferenceServicer
from spillover.cloud.rpc.parsing import Parser
from spillover.cloud.rpc.receiving import Receiver
from spillover.cloud.rpc.security import OnRefused, Security
from spillover.cloud.rpc.spillover_servicer import SpilloverServicer
from spillover.cloud.rpc.standard_services import described, reflection_methods
from spillover.cloud.rpc.writing import Writes
from spillover.cloud.security.audit import NOBODY, Refusals
from spillover.cloud.serving.admission import RateLimiter
from spillover.cloud.serving.dataplane import Dataplane
from spillover.cloud.serving.decoding import Decoding
from spillover.cloud.serving.probes import Heartbeat, open_pages, status_of
from spillover.cloud.serving.readiness import Readiness
from spillover.cloud.serving.registry import Registry
from spillover.cloud.serving.reloading import changed_for_a_restart
from spillover.cloud.serving.room import room_for
from spillover.cloud.serving.stopping import (
    CUT_OFF,
    DRAINED,
    IDLE,
    STOPPED,
    UNLOADED,
    StopBudget,
    finished_by,
)
from spillover.cloud.serving.streams.streams import Streams, fault_of_video
from spillover.cloud.serving.trimming import Trimmer
from spillover.cloud.serving.workers import Workers
from spillover.cloud.telemetry.access import AccessLog
from spillover.cloud.telemetry.calls import STREAMING, Calls, FinishedCall
from spillover.cloud.telemetry.metrics import Metrics
from spillover.cloud.telemetry.traces import Traces
from spillover.common.errors import Cause
from spillover.common.log import get_logger
from spillover.common.model.runtimes.onnxruntime import check_providers
from spillover.common.net.http import HttpServer
from spillover.common.systemd import SILENT, Notifier
from spillover.common.traces import Collector
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import spillover_pb2 as pb

SERVICES = tuple(
    service.full_name for file in (pb, oip_pb) for service in file.DESCRIPTOR.services_by_name.values()
)

_QUIET_S, _QUIET_TIMES, _MAX_TIMES = 0.02, 3, 25
_COUNT_S = 0.05
"""So long before the drain's limit the calls are counted that it is going to cut off."""
_LOADING_THREADS = 4
LAST_RESORT_S = 1.0
"""What the stop may take beyond its limit before the process is ended from outside of the event loop."""

Stopping = Callable[[], StopBudget]
"""The budget of the stop, which begins with the first call of this."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. Addresses are the bound ones, `host:port` or `unix:/path`."""

    address: str
    metrics_address: str | None
    registry: Registry
    metrics: Metrics
    rate: RateLimiter
    connections: Connections
    config: CloudConfig
    readiness: Readiness
    loop: asyncio.AbstractEventLoop
    """Where all of it runs."""

    async def reload(self, config: CloudConfig) -> None:
        """Follow a changed configuration as far as a running server can, and log what needs a restart.

        Raises:
            ConfigError: the repository has none of the models that are asked for; nothing has changed.
        """
        check_providers(config.session, "session")
        await self.registry.reload(config)
        self.rate.follow(config.limits)
        self.connections.follow(config.limits)
        if keys := changed_for_a_restart(self.config, config):
            get_logger("server").warning("changed, but in force only after a restart", keys=keys)


class _StoppedEarlyError(Exception):
    """The server was asked to stop before it was ready."""


async def serve(
    config: CloudConfig,
    stop: asyncio.Event,
    on_ready: Callable[[Running], None],
    open_model: OpenModel | None = None,
    notifier: Notifier = SILENT,
) -> list[str]:
    """Serve until `stop` is set, then stop within `stop_timeout_s`; names what hangs and is left behind.

    Models are opened by `open_model`, else after a trial in a child process. `notifier` tells systemd.

    Raises:
        ConfigError, ModelError: it cannot start.
    """
    stopping = cache(lambda: StopBudget(config.stop_timeout_s))
    try:
        async with AsyncExitStack() as stack:
            running = await _start(config, stop, open_model, stack, stopping, notifier)
            on_ready(running)
            notifier.ready(status_of(running.readiness))
            await stop.wait()
            notifier.stopping("asked to stop", config.stop_timeout_s + LAST_RESORT_S)
    except _StoppedEarlyError:
        pass
    return stopping().left_behind


async def _start(
    config: CloudConfig,
    stop: asyncio.Event,
    open_model: OpenModel | None,
    stack: AsyncExitStack,
    stopping: Stopping,
    notifier: Notifier,
) -> Running:
    """Start the parts of a server in order; `stack` stops them in the reverse order."""
    check_providers(config.session, "session")
    metrics, readiness, heartbeat = Metrics(), Readiness(), Heartbeat()
    stack.push_async_callback(_ended, asyncio.ensure_future(heartbeat.run(readiness, notifier)))
    refusals = Refusals(asyncio.get_running_loop().call_later)
    stack.callback(refusals.close)
    calls = Calls(metrics.registry, refusals, *_told_of_calls(config, metrics, stack, stopping))
    security = Security(config, metrics, _from_threads(calls))
    metrics_address = None
    if config.metrics:
        admit = security.http_admission(config.metrics)
        page = open_pages(
            config.metrics, metrics.registry, readiness, heartbeat, security.http_context, admit
        )
        metrics_address = page.address
        stack.callback(_close_page, page, stopping)
    threads = config.executor.workers or os.cpu_count() or 1
    workers = Workers("decode", threads)
    loaders = Workers("models", _LOADING_THREADS)
    stack.push_async_callback(_stop_threads, (workers, loaders), stopping)
    decoding = Decoding(workers, threads, metrics)
    stack.callback(decoding.stop)
    trials = Trials()
    stack.callback(trials.stop)
    repository = Repository(config.models.repository_path)
    registry = Registry(repository, config, metrics, loaders, readiness, open_model or trials.open)
    stack.push_async_callback(_stop_models, registry, stopping)
    await _unless_stopped(stop, registry.load_all())
    rate = RateLimiter(config.limits)
    dataplane = Dataplane(registry, workers, decoding, _streams(config, metrics, stack), metrics.repeated)
    room = room_for(config.limits, machine_bytes())
    receiver = Receiver(room, Parser(config.limits, workers), rate, config.limits.body_timeout_s)
    writes = Writes(config.limits.write_timeout_s)
    stack.callback(writes.stop)
    trimmer = Trimmer(workers)
    stack.callback(trimmer.stop)
    connections = Connections(
        config.limits,
        metrics,
        anybody=not config.security.proves_callers,
        freed=_from_thread(trimmer.freed),
    )
    wrapper = CallWrapper(
        security.gate,
        receiver,
        room,
        writes,
        trimmer,
        connections,
        lambda: dataplane.load,
        calls.finished,
    )
    metrics.in_flight.set_function(lambda: wrapper.in_flight)
    metrics.watch_streams(lambda: {name: wrapper.open_streams[name] for name in STREAMING})
    metrics.watch_memory(room.used, room.charged_bytes)
    metrics.watch_readiness(lambda: readiness.ready)
    draining = asyncio.Event()
    own = SpilloverServicer(dataplane, workers)
    oip = OpenInferenceServicer(dataplane, wrapper, workers, config.limits, draining, readiness)
    wrapper.serve(methods_of(pb.DESCRIPTOR.services_by_name["Spillover"], own))
    wrapper.serve(methods_of(oip_pb.DESCRIPTOR.services_by_name["GRPCInferenceService"], oip))
    options = channel_options(config.limits, room, connections.places.accepted)
    server = grpc.aio.server(handlers=(wrapper,), options=options)
    address = await stack.enter_async_context(
        _listening(server, config.listen, wrapper, security, draining, readiness, stopping)
    )
    connections.start(address)
    stack.push_async_callback(_stop_connections, connections, stopping)
    return Running(
        address,
        metrics_address,
        registry,
        metrics,
        rate,
        connections,
        config,
        readiness,
        asyncio.get_running_loop(),
    )


def _streams(config: CloudConfig, metrics: Metrics, stack: AsyncExitStack) -> Streams:
    """What keeps streams; the log says whether video is served."""
    limit_bytes, log = config.limits.stream_bytes, get_logger("server")
    no_video = fault_of_video() if limit_bytes else ""
    if no_video or not limit_bytes:
        log.info("serves no video", because=no_video or "limits.stream_bytes is 0")
    else:
        log.info("serves video", stream_bytes=limit_bytes)
    streams = Streams(limit_bytes, not no_video, metrics.of_streams())
    stack.callback(streams.stop)
    return streams


def _from_thread(told: Callable[[int], None]) -> Callable[[int], None]:
    """Tells `told` a number from another thread, as long as the event loop runs."""
    loop = asyncio.get_running_loop()

    def tell(number: int) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has stopped
            loop.call_soon_threadsafe(told, number)

    return tell


def _from_threads(calls: Calls) -> OnRefused:
    """Tells `calls` of what was refused on other threads, as long as the event loop runs."""
    loop = asyncio.get_running_loop()

    def refused(cause: Cause, method: str, because: str) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has stopped
            loop.call_soon_threadsafe(calls.refused, cause, NOBODY, method, because)

    return refused


def _told_of_calls(
    config: CloudConfig, metrics: Metrics, stack: AsyncExitStack, stopping: Stopping
) -> list[Callable[[FinishedCall], None]]:
    """What writes a call into the access log, and what sends its spans, if that is wanted."""
    parts: dict[str, AccessLog | Traces] = {}
    if config.traces:
        collector = Collector(config.traces.endpoint, "spillover-cloud", "", "traces")
        parts["the sending of traces"] = Traces(metrics.registry, collector)
    if config.log.access:
        parts["the access log"] = AccessLog(metrics.registry)

    def stop(name: str, part: AccessLog | Traces) -> None:
        if not part.stop(stopping().until(IDLE)):
            stopping().left_behind.append(name)

    for name, part in parts.items():
        stack.callback(stop, name, part)
    return [part.add for part in parts.values()]


async def _unless_stopped(stop: asyncio.Event, starting: Coroutine[None, None, None]) -> None:
    """Await `starting`; raise _StoppedEarlyError when `stop` is set before it has ended."""
    task, stopped = asyncio.ensure_future(starting), asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
        raise _StoppedEarlyError
    await task


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _close_page(page: HttpServer, stopping: Stopping) -> None:
    if not page.stop(stopping().until(STOPPED)):
        stopping().left_behind.append("the metrics page")


async def _stop_threads(pools: tuple[Workers, ...], stopping: Stopping) -> None:
    for names in await asyncio.gather(*(pool.stop(stopping().until(IDLE)) for pool in pools)):
        stopping().left_behind.extend(names)


async def _stop_connections(connections: Connections, stopping: Stopping) -> None:
    if not await asyncio.to_thread(connections.stop, stopping().until(DRAINED)):
        stopping().left_behind.append("the connections' thread")


async def _stop_models(registry: Registry, stopping: Stopping) -> None:
    stopping().left_behind.extend(await registry.stop(stopping().until(UNLOADED)))


@asynccontextmanager
async def _listening(
    server: grpc.aio.Server,
    listen: str,
    wrapper: CallWrapper,
    security: Security,
    draining: asyncio.Event,
    readiness: Readiness,
    stopping: Stopping,
) -> AsyncIterator[str]:
    log = get_logger("server")
    pool = described((pb.DESCRIPTOR, oip_pb.DESCRIPTOR))
    healthy = Health(readiness, SERVICES, pool)
    wrapper.serve(healthy.methods())
    wrapper.serve(reflection_methods(pool, SERVICES))
    address = bind(server, listen, security.server_credentials())
    await server.start()
    try:
        yield address
    finally:
        draining.set()
        budget = stopping()
        readiness.drain()
        await healthy.stop()
        log.info("draining", in_flight=wrapper.in_flight, limit_s=budget.limit_s * DRAINED)
        dropped = await _drain(server, wrapper, budget)
        log.info("stopped", dropped=dropped)


async def _drain(server: grpc.aio.Server, wrapper: CallWrapper, budget: StopBudget) -> int:
    """Accept nothing more, answer what is in flight; returns how many calls were cut off at the limit.

    gRPC cancels calls that have arrived and that the event loop has not taken up when it stops. So answers
    are held, and clients that wait for them send nothing more, until all calls are taken up and each
    connection has got its GOAWAY.
    """
    until_s = budget.until(DRAINED)
    with wrapper.holding_answers():
        await finished_by(until_s, _taken_up(wrapper))
        stopping = asyncio.ensure_future(server.stop(max(0.0, until_s - time.monotonic())))
        await asyncio.wait({stopping}, timeout=_QUIET_S)
    if await finished_by(until_s - _COUNT_S, stopping):
        return 0
    dropped = wrapper.in_flight
    get_logger("server").warning("calls and clients that hang are cut off", calls=dropped)
    if not await finished_by(budget.until(CUT_OFF), stopping):
        budget.left_behind.append("connections")
    return dropped


async def _taken_up(wrapper: CallWrapper) -> None:
    """Wait until no further call has arrived for a moment, at most half a second.

    Several moments in a row, because a process that got no processor time has seen no calls either.
    """
    quiet = 0
    for _ in range(_MAX_TIMES):
        before = wrapper.calls
        await asyncio.sleep(_QUIET_S)
        quiet = quiet + 1 if wrapper.calls == before else 0
        if quiet == _QUIET_TIMES:
            return
