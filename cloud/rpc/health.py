"""gRPC's health service: says what the server's readiness says, and tells watchers when it changes.

The servicer of grpcio-health-checking is not used. It forgets all who watch a service when one of them
leaves; and it holds a lock while it writes, so that one who does not read keeps the server from stopping.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spillover.cloud.rpc.handlers import AnyContext
from spillover.cloud.rpc.standard_services import HEALTH, list_messages
from spillover.cloud.serving.readiness import Readiness

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_TELL_S = 0.2
"""Between the last change and the end of a watch: a client that gets both at once sees the end alone."""


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # untyped
    """Says whether the server is ready, the same for each of `services`; `stop` ends what it began."""

    def __init__(self, readiness: Readiness, services: Iterable[str]) -> None:
        self._readiness = readiness
        self._services = frozenset(("", *services))
        self._watches: set[asyncio.Task[None]] = set()
        self._list_request, self._list_response = list_messages()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve Check, Watch and List."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)
        listing = grpc.unary_unary_rpc_method_handler(
            self.List,
            request_deserializer=self._list_request.FromString,
            response_serializer=self._list_response.SerializeToString,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH, {"List": listing}),))

    async def Check(  # noqa: N802 - the contract's name
        self, request: health_pb2.HealthCheckRequest, context: AnyContext
    ) -> health_pb2.HealthCheckResponse:
        """The status of one service, `""` for the whole server."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service is here")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def List(self, request: object, context: AnyContext) -> Any:  # noqa: ANN401, N802 - no class to name
        """The status of every service."""
        del request, context
        answer = self._list_response()
        for name in self._services:
            answer.statuses[name].status = self._status(name)
        return answer

    async def Watch(  # noqa: N802 - the contract's name
        self, request: health_pb2.HealthCheckRequest, context: AnyContext
    ) -> None:
        """Tell the status, and tell it again whenever it changes."""
        watch = asyncio.ensure_future(self._tell(request.service, context))
        self._watches.add(watch)
        try:
            await asyncio.wait({watch})
        finally:
            watch.cancel()
            self._watches.discard(watch)
        if watch.cancelled():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        watch.result()

    async def stop(self) -> None:
        """Let the watchers hear of the change that was just made, and end their calls."""
        if self._watches:
            await asyncio.wait(self._watches, timeout=_TELL_S)
        for watch in self._watches:
            watch.cancel()

    async def _tell(self, service: str, context: AnyContext) -> None:
        told = None
        while True:
            change = self._readiness.change
            if (status := self._status(service)) != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            await change.wait()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(_UNKNOWN)
        return int(_SERVING if self._readiness.ready else _NOT_SERVING)
