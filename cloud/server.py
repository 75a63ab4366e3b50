"""The server's life: startup, serving, and an ordered drain. What is started last is stopped first."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from spillover.cloud.config import CloudConfig, LimitsConfig
from spillover.cloud.models.repository import Repository
from spillover.cloud.rpc.call_wrapper import CallWrapper
from spillover.cloud.rpc.health import Health
from spillover.cloud.rpc.oip_servicer import OpenInferenceServicer
from spillover.cloud.rpc.security import Security
from spillover.cloud.rpc.spillover_servicer import SpilloverServicer
from spillover.cloud.serving.admission import RateLimiter
from spillover.cloud.serving.dataplane import Dataplane
from spillover.cloud.serving.registry import Registry
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.errors import ConfigError
from spillover.common.log import get_logger
from spillover.common.net.addresses import with_port
from spillover.common.net.http import metrics_endpoint
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc

SERVICES = tuple(
    service.full_name for file in (pb, oip_pb) for service in file.DESCRIPTOR.services_by_name.values()
)

RELOADED = {"models", "session", "batching", "batching_of", "limits"}
"""Keys that a running server follows; of `models` not the repository, of `limits` the pixels and the rate."""
FIXED = tuple(key for key in CloudConfig.__struct_fields__ if key not in RELOADED)

_MAX_NOT_TAKEN_UP = 16_384
_QUIET_S, _QUIET_TIMES, _MAX_TIMES = 0.02, 3, 25


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. Addresses are the bound ones, `host:port`."""

    address: str
    metrics_address: str | None
    registry: Registry
    metrics: Metrics
    rate: RateLimiter
    config: CloudConfig

    async def reload(self, config: CloudConfig) -> None:
        """Follow a changed configuration as far as a running server can, and log what needs a restart."""
        fixed = [key for key in FIXED if getattr(config, key) != getattr(self.config, key)]
        if fixed:
            get_logger("server").warning("changed, but in force only after a restart", keys=fixed)
        self.rate.follow(config.limits)
        await self.registry.reload(config)


async def serve(config: CloudConfig, stop: asyncio.Event, on_ready: Callable[[Running], None]) -> None:
    """Serve until `stop` is set, then drain. Raises ConfigError or ModelError when it cannot start."""
    async with running(config) as server:
        on_ready(server)
        await stop.wait()


@asynccontextmanager
async def running(config: CloudConfig) -> AsyncIterator[Running]:
    """A server from its first model to its last answer."""
    metrics = Metrics()
    security = Security(config, metrics)
    with (
        _metrics_endpoint(config, metrics, security) as metrics_address,
        ThreadPoolExecutor(config.executor.workers or os.cpu_count(), "decode") as executor,
    ):
        async with _loaded(config, metrics) as registry:
            rate = RateLimiter(config.limits)
            dataplane = Dataplane(registry, executor, rate, metrics.repeated)
            wrapper = CallWrapper(metrics, lambda: dataplane.load, security.identify)
            async with _listening(config, dataplane, wrapper, security) as address:
                yield Running(address, metrics_address, registry, metrics, rate, config)


def _metrics_endpoint(
    config: CloudConfig, metrics: Metrics, security: Security
) -> AbstractContextManager[str | None]:
    """Prometheus' page, behind the same certificates, tokens and roles as the calls."""
    guards = config.metrics and security.guards(config.metrics)
    return metrics_endpoint(
        config.metrics,
        metrics.registry,
        key="metrics",
        context=security.http_context,
        admit=security.admit_http if guards else None,
    )


@asynccontextmanager
async def _loaded(config: CloudConfig, metrics: Metrics) -> AsyncIterator[Registry]:
    registry = Registry(Repository(config.models.repository_path), config, metrics)
    try:
        await registry.load_all()
        yield registry
    finally:
        await registry.close()


@asynccontextmanager
async def _listening(
    config: CloudConfig, dataplane: Dataplane, wrapper: CallWrapper, security: Security
) -> AsyncIterator[str]:
    log = get_logger("server")
    server = grpc.aio.server(interceptors=security.interceptors, options=channel_options(config.limits))
    healthy = Health()
    for name in ("", *SERVICES):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    draining = asyncio.Event()
    pb_grpc.add_SpilloverServicer_to_server(SpilloverServicer(dataplane, wrapper), server)
    oip_grpc.add_GRPCInferenceServiceServicer_to_server(
        OpenInferenceServicer(dataplane, wrapper, config.limits, draining), server
    )
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = _bind(server, config.listen, security.server_credentials())
    await server.start()
    try:
        yield address
    finally:
        draining.set()
        await healthy.stop()
        log.info("draining", in_flight=wrapper.in_flight, limit_s=config.drain_timeout_s)
        dropped = await _drain(server, wrapper, config.drain_timeout_s)
        log.info("stopped", dropped=dropped)


async def _drain(server: grpc.aio.Server, wrapper: CallWrapper, limit_s: float) -> int:
    """Accept nothing more, answer what is in flight; returns how many calls were cut off at the limit.

    gRPC cancels calls that have come and are not taken up when it stops. So no answer leaves, and no client
    that waits for one sends more, until all are taken up and the connections have been told to end.
    """
    with wrapper.holding_answers():
        await _taken_up(wrapper)
        stopping = asyncio.ensure_future(server.stop(limit_s))
        await asyncio.wait({stopping}, timeout=_QUIET_S)
    done, _ = await asyncio.wait({stopping}, timeout=limit_s - 0.05 if limit_s > 0.1 else limit_s)
    dropped = 0 if done else wrapper.in_flight
    await stopping
    return dropped


async def _taken_up(wrapper: CallWrapper) -> None:
    """Wait until no further call has come for a moment; under a load that never pauses, not for long.

    Several times in a row, because a process that got no processor time has seen no calls either.
    """
    quiet = 0
    for _ in range(_MAX_TIMES):
        before = wrapper.calls
        await asyncio.sleep(_QUIET_S)
        quiet = quiet + 1 if wrapper.calls == before else 0
        if quiet == _QUIET_TIMES:
            return


def channel_options(limits: LimitsConfig) -> list[tuple[str, int]]:
    """Options of the server (names: grpc_types.h of gRPC core). Clients may ping without a call in flight."""
    return [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", limits.max_message_bytes),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_concurrent_streams", limits.max_streams),
        ("grpc.server_handshake_timeout_ms", _ms(limits.handshake_timeout_s)),
        ("grpc.max_connection_age_ms", _ms(limits.max_connection_age_s)),
        ("grpc.max_connection_age_grace_ms", _ms(limits.max_connection_age_grace_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(limits.min_ping_interval_s)),
        # The server's own pings find peers that vanished without a word, and free what they held.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Without this a second server on the same port would silently take half of the connections.
        ("grpc.so_reuseport", 0),
        # Calls that the event loop has not taken up yet. Beyond gRPC's own 1000 it cancels whoever comes.
        ("grpc.server.max_pending_requests", _MAX_NOT_TAKEN_UP),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_NOT_TAKEN_UP),
    ]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> str:
    try:
        port = (
            server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
        )
    except RuntimeError as error:
        raise ConfigError(f"listen: cannot listen on {listen}: {error}") from error
    return with_port(listen, port)
