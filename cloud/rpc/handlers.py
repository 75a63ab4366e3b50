"""Wrapping a gRPC method handler of any of the four kinds, for interceptors."""

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc.aio

AnyContext = grpc.aio.ServicerContext[Any, Any]

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # generic in the stubs alone
else:
    Handler = grpc.RpcMethodHandler

Before = Callable[[Any, AnyContext], Awaitable[Any]]
"""Takes a request, or an iterator of them, and gives what the method is to see in its place; may abort."""

_KINDS: dict[tuple[bool, bool], tuple[str, Callable[..., Handler]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def wrapped(handler: Handler, before: Before, deserializer: Callable[[bytes], Any] | None = None) -> Handler:
    """`handler` with `before` run ahead of its method, and with `deserializer`, if given, for its own."""
    attribute, make = _KINDS[handler.request_streaming, handler.response_streaming]
    method = getattr(handler, attribute)

    async def answer(request: Any, context: AnyContext) -> Any:  # noqa: ANN401 - any message
        return await method(await before(request, context), context)

    async def answers(request: Any, context: AnyContext) -> None:  # noqa: ANN401 - any message
        replies = method(await before(request, context), context)
        if not inspect.isasyncgen(replies):
            await replies
            return
        async for reply in replies:
            await context.write(reply)

    return make(
        answers if handler.response_streaming else answer,
        request_deserializer=deserializer or handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
