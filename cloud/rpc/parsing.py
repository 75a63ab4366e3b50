"""From bytes to messages: large ones off the event loop, and what is no message is the sender's fault.

gRPC's Python servers parse on the event loop, and let the parser's error through as UNKNOWN, which blames the
server.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from spillover.cloud.config import LimitsConfig
from spillover.cloud.rpc.handlers import AnyContext, Handler, wrapped
from spillover.cloud.rpc.wire_cost import check_cost
from spillover.cloud.serving.workers import LOOP_BYTES, Workers
from spillover.cloud.telemetry.calls import Calls, FinishedCall
from spillover.common.errors import MalformedError, SpilloverError, TooLargeError

_OTHER_FIELDS = 1 << 17
"""Fields that a message may have beside the elements of its tensors; a submessage counts as several."""

Parse = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class _Large:
    """Stands for a message that is still to be parsed."""

    data: bytes


@dataclass(frozen=True, slots=True)
class _Refused:
    """Stands for a message that could not be parsed, or not in reasonable time."""

    error: SpilloverError


class MessageParser(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Gives every method a parser that does not fail and that never holds up the event loop for long."""

    def __init__(self, limits: LimitsConfig, workers: Workers, calls: Calls) -> None:
        self._limit = limits.max_unpacked_elements + _OTHER_FIELDS
        self._workers = workers
        self._calls = calls
        self._wrapped: dict[str, Handler] = {}
        self._large: ContextVar[bool] = ContextVar("large", default=False)

    def is_large(self) -> bool:
        """Whether the running call's request is too large to be converted on the event loop."""
        return self._large.get()  # each call runs in a task, and so in a context, of its own

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

    def _wrap(self, handler: Handler, parse: Parse, name: str) -> Handler:
        def parse_small(data: bytes) -> Any:  # noqa: ANN401 - any message
            return _Large(data) if len(data) > LOOP_BYTES else _parsed(data, parse)

        async def parsed(request: Any, context: AnyContext) -> Any:  # noqa: ANN401 - any message
            self._large.set(isinstance(request, _Large))
            if isinstance(request, _Large):
                request = await self._workers.run(
                    f"parsing of {name}", self._parse_large, request.data, parse
                )
            if isinstance(request, _Refused):
                await self._refuse(request, name, context)
            return request

        async def each_parsed(requests: AsyncIterator[Any], context: AnyContext) -> AsyncIterator[Any]:
            async for request in requests:
                yield await parsed(request, context)

        async def before(request: Any, context: AnyContext) -> Any:  # noqa: ANN401 - any message
            if handler.request_streaming:
                return each_parsed(request, context)
            return await parsed(request, context)

        return wrapped(handler, before, parse_small)

    def _parse_large(self, data: bytes, parse: Parse) -> Any:  # noqa: ANN401 - any message
        message_class: Any = parse.__self__  # type: ignore[attr-defined]  # it is the class's `FromString`
        try:
            check_cost(data, message_class.DESCRIPTOR, self._limit)
        except TooLargeError as error:
            return _Refused(error)
        return _parsed(data, parse)

    async def _refuse(self, refused: _Refused, name: str, context: AnyContext) -> None:
        status = grpc.StatusCode.INVALID_ARGUMENT
        self._calls.began(name)
        self._calls.finished(FinishedCall(name, status, 0.0, context.peer(), error=refused.error))
        await context.abort(status, f"not a request of {name}: {refused.error}")


def _parsed(data: bytes, parse: Parse) -> Any:  # noqa: ANN401 - any message
    try:
        return parse(data)
    except DecodeError as error:
        return _Refused(MalformedError(str(error)))
