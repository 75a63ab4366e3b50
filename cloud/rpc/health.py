"""gRPC's health service: says what the server's readiness says, and tells watchers when it changes.

The servicer of grpcio-health-checking is not used. It forgets all who watch a service when one of them
leaves; and it holds a lock while it writes, so that one who does not read keeps the server from stopping.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1.health_pb2 import HealthCheckResponse

from spillover.cloud.rpc.call import AnyContext
from spillover.cloud.rpc.methods import Method, methods_of
from spillover.cloud.rpc.standard_services import HEALTH
from spillover.cloud.serving.readiness import Readiness

_TELL_S = 0.2
"""Between the last change and the end of a watch: a client that gets both at once sees the end alone."""


class Health:
    """Says whether the server is ready, the same for each of `services`; `stop` ends what it began.

    `pool` has the descriptor of the service, `List` included.
    """

    def __init__(self, readiness: Readiness, services: Iterable[str], pool: DescriptorPool) -> None:
        self._readiness = readiness
        self._services = frozenset(("", *services))
        self._watches: set[asyncio.Task[None]] = set()
        self._service = pool.FindServiceByName(HEALTH)
        methods = self._service.methods_by_name
        self._response: Any = GetMessageClass(methods["Check"].output_type)
        self._list_response: Any = GetMessageClass(methods["List"].output_type)

    def methods(self) -> Iterator[Method]:
        """Check, Watch and List."""
        return methods_of(self._service, self, of_library=True)

    async def Check(self, request: Any, context: AnyContext) -> Any:  # noqa: ANN401, N802 - classes of the pool
        """The status of one service, `""` for the whole server."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service is here")
        return self._response(status=self._status(request.service))

    async def List(self, request: object, context: AnyContext) -> Any:  # noqa: ANN401, N802 - as above
        """The status of every service."""
        del request, context
        answer = self._list_response()
        for name in self._services:
            answer.statuses[name].status = self._status(name)
        return answer

    async def Watch(self, request: Any, context: AnyContext) -> None:  # noqa: ANN401, N802 - as above
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
                await context.write(self._response(status=status))
                told = status
            await change.wait()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(HealthCheckResponse.SERVICE_UNKNOWN)
        ready = self._readiness.ready
        return int(HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING)
