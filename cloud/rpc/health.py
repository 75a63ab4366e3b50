"""gRPC's health service, with watchers that cannot keep the server from stopping.

The `Watch` of grpcio-health-checking never ends by itself, and holds a lock while it writes. Any caller may
watch, and one watcher that does not read would be enough.
"""

import asyncio

import grpc
from grpc_health.v1 import health, health_pb2

from spillover.cloud.rpc.call import AnyContext

_TELL_S = 0.2


class Health(health.aio.HealthServicer):  # type: ignore[misc, name-defined]  # missing in the stubs
    """Says whether the server serves; `stop` ends what it began."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Task[None]] = set()

    async def Watch(  # noqa: N802 - the contract's name
        self, request: health_pb2.HealthCheckRequest, context: AnyContext
    ) -> None:
        """Tell the status, and tell it again whenever it changes."""
        watch = asyncio.ensure_future(super().Watch(request, context))
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
        """Set NOT_SERVING for everything, tell the watchers, and end their calls."""
        telling = asyncio.ensure_future(self.enter_graceful_shutdown())
        await asyncio.wait({telling, *self._watches}, timeout=_TELL_S)
        for watch in self._watches:
            watch.cancel()
        await asyncio.wait({telling}, timeout=_TELL_S)
