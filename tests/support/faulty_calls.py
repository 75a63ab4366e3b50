"""A gRPC proxy that loses, repeats, delays and reorders calls, and cuts connections, by a seeded script.

Bytes in order are what `faulty_link` breaks; here a call that is lost leaves the connection as it was. Each
call of `Infer` meets one trouble at most; all other calls pass. With several servers behind it, each call
goes to any of them, as behind a balancer.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Self

import grpc

from tests.support.faulty_link import FaultyProxy

_SERVICE, _INFER = "spillover.v1.Spillover", "Infer"
PATIENCE_S = 5.0
"""What a call without a deadline of its own gets."""
_OVERTAKEN_S = 1.0
"""How long a call that is to be overtaken waits for others."""
_WORKERS = 48
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that comes back is found at once.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
)
_NOT_PASSED_ON = ("grpc-", ":", "user-agent", "te", "content-type")


@dataclass(frozen=True, slots=True)
class Troubles:
    """Which share of the calls meets which trouble; the rest passes."""

    request_lost: float = 0.0
    """The server never hears of it."""
    reply_lost: float = 0.0
    """The server has answered, and nobody learns it."""
    repeated: float = 0.0
    """A second copy reaches the server, at once or after later calls; its answer goes nowhere."""
    delayed: float = 0.0
    """It waits up to `delay_s`."""
    reordered: float = 0.0
    """It waits until later calls, up to `MOST_OVERTAKING` of them, have reached the server."""
    cut: float = 0.0
    """All connections of callers end with it."""
    delay_s: float = 0.1
    lost_as: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE
    """What the caller of a lost call sees; None: nothing until its deadline."""


NO_TROUBLES = Troubles()
MOST_OVERTAKING = 4
_KINDS = ("request_lost", "reply_lost", "repeated", "delayed", "reordered", "cut")
Watch = Callable[[str, bytes, bytes], None]
"""Is told of each answer that a server gave, before it is lost or not: the server, the request, the reply."""


class FaultyCalls:
    """Calls to `address` reach one of `servers`, `host:port` each, unless told otherwise.

    `counts` says how many calls each trouble has befallen, and how many `passed`. Every method may be called
    from any thread.
    """

    def __init__(self, *servers: str, seed: int = 0, watch: Watch | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._troubles = NO_TROUBLES
        self._watch = watch
        self._arrived = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._channels = _channels_to(servers)
        self._closing = ExitStack()
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="faulty-calls")

    def __enter__(self) -> Self:
        """Begin to listen."""
        server = grpc.server(self._pool, options=_OPTIONS)
        handlers = {
            method: grpc.unary_unary_rpc_method_handler(partial(self._answer, method))
            for method in (_INFER, "ListModels")
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._closing.callback(self._pool.shutdown)
        self._closing.callback(lambda: _close(self._channels))
        self._closing.callback(lambda: server.stop(None).wait(PATIENCE_S))
        self._link = self._closing.enter_context(FaultyProxy(f"127.0.0.1:{port}"))
        self._closing.callback(self._let_go)
        return self

    def __exit__(self, *_: object) -> None:
        """End all calls."""
        self._closing.close()

    @property
    def address(self) -> str:
        """`host:port`, where callers come in."""
        return self._link.address

    def set(self, troubles: Troubles) -> None:
        """What happens to calls from now on."""
        with self._changed:
            self._troubles = troubles

    def lead_to(self, *servers: str) -> None:
        """Pass calls on to other servers from now on; the connections of callers stay."""
        with self._changed:
            old, self._channels = self._channels, _channels_to(servers)
        _close(old)

    def _let_go(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _answer(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._changed:
            troubles = self._troubles if method == _INFER else NO_TROUBLES
            kind = self._drawn(troubles)
            channel = self._rng.choice(self._channels)
            draw = self._rng.random()
            number = self._arrived
            self.counts[kind] += 1
        call = _Call(method, request, _passed_on(context.invocation_metadata()), context)
        if kind == "request_lost":
            self._reached(method)
            self._lose(context, troubles)
        if kind == "cut":
            self._link.reset()
        elif kind == "delayed":
            self._wait(lambda: False, draw * troubles.delay_s)
        elif kind == "reordered":
            self._wait_for_others(number, draw)
        elif kind == "repeated":
            self._pool.submit(self._repeat, channel, call, number, draw)
        self._reached(method)
        return self._forward(channel, call, troubles, lose=kind == "reply_lost")

    def _drawn(self, troubles: Troubles) -> str:
        draw = self._rng.random()
        for kind in _KINDS:
            if (draw := draw - getattr(troubles, kind)) < 0:
                return kind
        return "passed"

    def _forward(self, channel: "_Channel", call: "_Call", troubles: Troubles, *, lose: bool) -> bytes:
        context = call.context
        try:
            reply, rpc = channel.call(call, context.time_remaining())
        except grpc.RpcError as error:
            if lose:
                self._lose(context, troubles)
            context.set_trailing_metadata(_passed_on(error.trailing_metadata(), trailing=True))
            context.abort(error.code(), error.details() or "")
        if self._watch is not None and call.method == _INFER:
            self._watch(channel.server, call.request, reply)
        if lose:
            self._lose(context, troubles)
        context.set_trailing_metadata(_passed_on(rpc.trailing_metadata(), trailing=True))
        return reply

    def _repeat(self, channel: "_Channel", call: "_Call", number: int, draw: float) -> None:
        """The second copy; how it ends is of no interest, but a wrong answer would be."""
        if draw < 0.5:
            self._wait_for_others(number, 2 * draw)
        try:
            reply, _ = channel.call(call, PATIENCE_S)
        except (grpc.RpcError, ValueError):  # ValueError: the channel was closed meanwhile
            return
        if self._watch is not None:
            self._watch(channel.server, call.request, reply)

    def _lose(self, context: grpc.ServicerContext, troubles: Troubles) -> NoReturn:
        if troubles.lost_as is None:
            left_s = context.time_remaining()
            self._wait(lambda: not context.is_active(), PATIENCE_S if left_s is None else left_s + 1.0)
        context.abort(troubles.lost_as or grpc.StatusCode.CANCELLED, "lost on the way")

    def _wait_for_others(self, number: int, draw: float) -> None:
        goal = number + 1 + int(draw * MOST_OVERTAKING)
        self._wait(lambda: self._arrived >= goal, _OVERTAKEN_S)

    def _wait(self, until: Callable[[], bool], limit_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or until(), limit_s)

    def _reached(self, method: str) -> None:
        if method == _INFER:
            with self._changed:
                self._arrived += 1
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    request: bytes
    metadata: tuple[tuple[str, str | bytes], ...]
    context: grpc.ServicerContext


class _Channel:
    """The way to one server."""

    def __init__(self, server: str) -> None:
        self.server = server
        self._channel = grpc.insecure_channel(server, options=_OPTIONS)

    def call(self, call: _Call, timeout_s: float | None) -> tuple[bytes, Any]:
        """The reply as bytes, and the call. Raises grpc.RpcError."""
        method = self._channel.unary_unary(f"/{_SERVICE}/{call.method}", _as_it_is, _as_it_is)
        return method.with_call(call.request, timeout=timeout_s, metadata=call.metadata)

    def close(self) -> None:
        """End its calls."""
        self._channel.close()


def _channels_to(servers: Sequence[str]) -> tuple[_Channel, ...]:
    return tuple(_Channel(server) for server in servers)


def _close(channels: Iterable[_Channel]) -> None:
    for channel in channels:
        channel.close()


def _as_it_is(data: bytes) -> bytes:
    return data


def _passed_on(
    metadata: Iterable[Any] | None, *, trailing: bool = False
) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata without what gRPC itself adds; of a server's, its hints stay."""
    own = ("grpc-status", "grpc-message", "content-type") if trailing else _NOT_PASSED_ON
    return tuple((key, value) for key, value in metadata or () if not key.startswith(own))
