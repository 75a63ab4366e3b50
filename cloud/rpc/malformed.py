"""Bytes that are no message of the method's type: the sender's fault, so INVALID_ARGUMENT.

gRPC's Python servers let the parser's error through as UNKNOWN, which blames the server.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from spillover.cloud.rpc.handlers import Handler, wrapped
from spillover.cloud.rpc.identity import AnyContext
from spillover.cloud.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class _Malformed:
    """Stands for a message that could not be parsed."""

    reason: str


class MalformedGuard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Gives every method a parser that cannot fail, and refuses what it cannot parse."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The method's handler, wrapped once."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        if method not in self._wrapped:  # methods that exist: a fixed number
            name = method.rpartition("/")[2]
            self._wrapped[method] = self._wrap(handler, handler.request_deserializer, name)
        return self._wrapped[method]

    def _wrap(self, handler: Handler, parse: Callable[[bytes], Any], name: str) -> Handler:
        def tolerant(data: bytes) -> Any:  # noqa: ANN401 - any message
            try:
                return parse(data)
            except DecodeError as error:
                return _Malformed(str(error))

        async def checked(request: Any, context: AnyContext) -> Any:  # noqa: ANN401 - any message
            if isinstance(request, _Malformed):
                self._metrics.rejected.labels("Malformed").inc()
                self._metrics.requests.labels(name, grpc.StatusCode.INVALID_ARGUMENT.name).inc()
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, f"not a request of {name}: {request.reason}"
                )
            return request

        async def each_checked(requests: AsyncIterator[Any], context: AnyContext) -> AsyncIterator[Any]:
            async for request in requests:
                yield await checked(request, context)

        async def before(request: Any, context: AnyContext) -> Any:  # noqa: ANN401 - any message
            if handler.request_streaming:
                return each_checked(request, context)
            return await checked(request, context)

        return wrapped(handler, before, tolerant)
