"""The path of every call: headers, identity, rate, memory, message, work, answer; errors become statuses.

On the wire a call with one message is a stream of one. Registered as that, a method begins when its headers
are there, before gRPC reads anything of the message; so who may not call, or comes too often, is never read.

Servicers deal with none of this: they take a request and a `ServedCall`, and give a reply or raise.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message

from spillover.cloud.rpc.call import AnyContext, ServedCall
from spillover.cloud.rpc.connections.keeper import Connections
from spillover.cloud.rpc.connections.rules import Standing
from spillover.cloud.rpc.gate import Gate
from spillover.cloud.rpc.methods import Method, unknown_method
from spillover.cloud.rpc.receiving import Incoming, Receiver
from spillover.cloud.rpc.status import details_of, status_of, trailing_metadata
from spillover.cloud.rpc.writing import Writes
from spillover.cloud.serving.memory import Kind, Lease
from spillover.cloud.serving.room import CALL_BYTES, Room
from spillover.cloud.serving.trimming import Trimmer
from spillover.cloud.telemetry.calls import FinishedCall
from spillover.common.errors import Cause, OverloadedError, SpilloverError
from spillover.common.log import Throttled

if TYPE_CHECKING:  # generic in the stubs alone
    GenericRpcHandler = grpc.GenericRpcHandler[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    GenericRpcHandler = grpc.GenericRpcHandler
    Handler = grpc.RpcMethodHandler

LOAD_KEY = "spillover-load"
QUEUE_WAIT_KEY = "spillover-queue-wait-us"
SENDING_FACTOR = 2
"""What an answer costs until it is written: Python's bytes and gRPC's copy of them."""
INTERNAL = grpc.StatusCode.INTERNAL
OK = grpc.StatusCode.OK
CANCELLED = grpc.StatusCode.CANCELLED
_INTERNAL_DETAILS = "internal error; the server's log has it"
_LOAD_HINT_AGE_S = 0.01
_SMALL_BYTES = 8 * 1024
"""An answer of this size fits into what the call is charged anyway."""

T = TypeVar("T", bound=Message)


class CallWrapper(GenericRpcHandler):
    """Serves methods to gRPC.

    `load` gives how full the server is; `on_end` is told of each call that has ended, and of each message
    of a stream of requests.
    """

    def __init__(
        self,
        gate: Gate,
        receiver: Receiver,
        room: Room,
        writes: Writes,
        trimmer: Trimmer,
        connections: Connections,
        load: Callable[[], float],
        on_end: Callable[[FinishedCall], None],
    ) -> None:
        self.in_flight = 0
        """Calls with one message, and messages of streams, that have no answer yet."""
        self.calls = 0
        """How many of them have come since the start."""
        self.open_streams: Counter[str] = Counter()
        """Calls with many answers that have not ended, by method."""
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._gate = gate
        self._receiver = receiver
        self._memory = room.memory
        self._strangers = room.strangers
        self._writes = writes
        self._trimmer = trimmer
        self._connections = connections
        self._load = load
        self._load_hint = ""
        self._load_hint_until_s = 0.0
        self._on_end = on_end
        self._handlers: dict[str, Handler] = {}
        self._log = Throttled("calls")

    def serve(self, methods: Iterable[Method]) -> None:
        """Answer these methods too."""
        for method in methods:
            self._handlers[method.path] = self._handler(method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """The handler of a method, for gRPC; of one that does not exist, one that says so to who may know."""
        path = handler_call_details.method
        return self._handlers.get(path) or self._handler(unknown_method(path))

    @contextmanager
    def holding_answers(self) -> Iterator[None]:
        """While inside, calls are taken up and worked on, and their answers wait."""
        self._may_answer.clear()
        try:
            yield
        finally:
            self._may_answer.set()

    async def message(
        self, call: ServedCall, incoming: Incoming, work: Callable[[Any, Any], Awaitable[T]]
    ) -> T:
        """Answer one message of a stream with `work(request, call)`. Raises what keeps it from an answer."""
        one = call.of_message(incoming.message_bytes)
        self.in_flight += 1
        self.calls += 1
        try:
            reply = await work(incoming.taken(), one)
            one.sent_bytes = reply.ByteSize()
            self._memory.charge(incoming.lease, Kind.SENDING, SENDING_FACTOR * one.sent_bytes)
            one.status = OK
            if call.connection:
                self._connections.answered(call.connection)
        except Exception as error:
            self._note(one, error)
            raise
        else:
            return reply
        finally:
            self.in_flight -= 1
            self._on_end(one.end())

    def _handler(self, method: Method) -> Handler:
        # gRPC asks at each call whether these are coroutine functions; with a `partial` that takes longer.
        async def unary(_: object, context: AnyContext) -> bytes:
            return await self._unary(method, context)

        async def stream(_: object, context: AnyContext) -> None:
            await self._stream(method, context)

        async def writing(_: object, context: AnyContext) -> None:
            await self._writing(method, context)

        if not method.streams_replies:
            return grpc.stream_unary_rpc_method_handler(unary)
        if method.streams_requests:
            return grpc.stream_stream_rpc_method_handler(stream)
        serialize = method.reply.SerializeToString
        return grpc.stream_stream_rpc_method_handler(writing, response_serializer=serialize)

    async def _unary(self, method: Method, context: AnyContext) -> bytes:
        """A call with one message and one answer."""
        call, failure = self._begin(method, context), None
        try:
            await self._let_in(call)
            reply = await method.work(await self._receiver.one(call), call.seen_by(method))
            data: bytes = reply.SerializeToString()
            if call.lease and (len(data) > _SMALL_BYTES or call.lease.amount > 2 * CALL_BYTES):
                self._memory.charge(call.lease, Kind.SENDING, CALL_BYTES + SENDING_FACTOR * len(data))
        except Exception as error:  # noqa: BLE001 - each becomes a status
            failure = self._noted(call, error)
        if failure:
            await self._end_with(call, failure)
        if not self._may_answer.is_set():
            await self._may_answer.wait()
        call.sent_bytes = len(data)
        call.status = OK
        context.set_trailing_metadata(self._hints(call.queue_wait_s))
        self._writes.begin(call)
        return data

    async def _stream(self, method: Method, context: AnyContext) -> None:
        """A call with many messages and an answer to each, in their order."""
        call, failure = self._begin(method, context), None
        leases: deque[Lease] = deque()
        try:
            await self._let_in(call)
            requests = self._receiver.each(call, leases)
            given = (incoming.request async for incoming in requests) if method.of_library else requests
            async with aclosing(method.work(given, call.seen_by(method))) as replies:
                async for reply in replies:
                    data = reply.SerializeToString()
                    self._writes.begin(call)
                    await context.write(data)
                    self._writes.ended(call)
                    call.sent_bytes += len(data)
                    self._memory.release(leases.popleft())
            call.status = OK
        except Exception as error:  # noqa: BLE001 - each becomes a status
            failure = self._noted(call, error)
        finally:
            for lease in leases:
                self._memory.release(lease)
        if failure:
            await self._end_with(call, failure)

    async def _writing(self, method: Method, context: AnyContext) -> None:
        """A call with one message, whose method writes its answers itself."""
        call, failure = self._begin(method, context), None
        try:
            await self._let_in(call)
            await method.work(await self._receiver.one(call), call.seen_by(method))
            call.status = OK
        except Exception as error:  # noqa: BLE001 - each becomes a status
            failure = self._noted(call, error)
        if failure:
            await self._end_with(call, failure)

    def _begin(self, method: Method, context: AnyContext) -> ServedCall:
        call = ServedCall(context, method)
        if not method.streams_replies:
            self.in_flight += 1
            self.calls += 1
        else:
            self.open_streams[method.name] += 1
        call.connection = self._connections.began(call.peer)
        call.task.add_done_callback(partial(self._ended, call))
        return call

    async def _let_in(self, call: ServedCall) -> None:
        """Find out whose call it is, and charge it to them; to its address while that is not known.

        A call for which there is no room at all is not even told so: until it had read that, it would have
        the room all the same.

        Raises:
            UnauthenticatedError, ForbiddenError: the caller may not.
            OverloadedError: the caller has no room.
        """
        refusal: SpilloverError | None = None
        try:
            self._gate.admit(call)
            if call.connection and call.caller.name:
                call.connection.prove(call.caller.name)
            if not call.method.is_open:
                call.charge(self._memory, call.holder, is_proven=call.is_proven)
                return
        except SpilloverError as error:
            refusal = error
        try:
            call.charge(self._strangers, call.network, is_proven=False)
        except OverloadedError as error:
            self._note(call, error)
            self._writes.cut_off_soon(call)
            await asyncio.Event().wait()
        if refusal:
            raise refusal

    def _ended(self, call: ServedCall, _: object) -> None:
        """The call is over, and its answer, if it has one, is written."""
        self._writes.ended(call)
        if call.connection:
            if call.status is OK and not call.method.is_open:
                self._connections.answered(call.connection)
            self._connections.ended(call.connection)
            if call.connection.standing is Standing.STRANGER and _is_vain(call):
                self._connections.came_to_nothing(call.connection)
        call.release()
        if call.aborted:  # gRPC's call keeps it, and its frames keep the call: a ring that would outlive both
            call.aborted.__traceback__ = None
            call.aborted = None
        # Of a message that came too slowly or was given up, or an answer that was not read, any part may have
        # been held.
        cut_short = call.cause is Cause.SLOW or call.status is grpc.StatusCode.CANCELLED
        unread = self._memory.permit_bytes if cut_short else 0
        self._trimmer.freed(call.received_bytes + call.sent_bytes + unread)
        if not call.method.streams_replies:
            self.in_flight -= 1
        if call.method.streams_replies:
            self.open_streams[call.method.name] -= 1
        if call.method.of_library or not call.method.streams_requests:
            self._on_end(call.end())
        elif call.status is not OK:  # its messages have been told of
            call.received_bytes = call.sent_bytes = 0
            self._on_end(call.end())

    def _noted(self, call: ServedCall, error: Exception) -> Exception:
        """`error`, without the frames it came through: they hold the message, and gRPC keeps the error."""
        if isinstance(error, grpc.aio.AbortError):  # a library's method has answered so
            call.status = call.context.code()
        elif not isinstance(error, grpc.aio.BaseError):
            self._note(call, error)
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)

    async def _end_with(self, call: ServedCall, error: Exception) -> NoReturn:
        """Answer with the status that belongs to `error`, and raise what gRPC wants raised."""
        if isinstance(error, grpc.aio.BaseError):  # gRPC's own: the client has gone, the server has stopped
            raise error
        details, extra = _INTERNAL_DETAILS, trailing_metadata(error)
        if isinstance(error, SpilloverError):
            details = details_of(error)
        if not self._may_answer.is_set():
            await self._may_answer.wait()
        hints = self._hints(0.0) if call.holder else ()  # nothing to strangers
        self._writes.begin(call)
        try:
            await call.context.abort(call.status, details, (*hints, *extra))
        except grpc.aio.AbortError as aborted:
            call.aborted = aborted
            raise
        raise AssertionError("abort raises")

    def _note(self, call: ServedCall, error: Exception) -> None:
        if isinstance(error, SpilloverError):
            call.status, call.cause, call.because = status_of(error), error.cause, str(error)
        else:
            call.status = INTERNAL
        if call.status is INTERNAL:
            trace = None if isinstance(error, SpilloverError) else error
            cause = f"{call.method.name} {type(error).__name__}"
            about: dict[str, object] = {"exc_info": trace} if trace else {}
            if call.trace:
                about["trace_id"] = call.trace.trace_hex
            self._log.error("request failed", cause=cause, method=call.method.name, error=str(error), **about)

    def _hints(self, queue_wait_s: float) -> tuple[tuple[str, str], ...]:
        return (QUEUE_WAIT_KEY, str(round(queue_wait_s * 1e6))), (LOAD_KEY, self._fresh_load_hint())

    def _fresh_load_hint(self) -> str:
        """The load, computed anew after a moment: with many models, computing it at every answer costs."""
        now_s = time.monotonic()
        if now_s >= self._load_hint_until_s:
            self._load_hint = f"{self._load():.3f}"
            self._load_hint_until_s = now_s + _LOAD_HINT_AGE_S
        return self._load_hint


def _is_vain(call: ServedCall) -> bool:
    """Whether a call has shown nothing: given up by its client, without an identity, or open to everybody."""
    return call.status is CANCELLED or call.cause is Cause.UNAUTHENTICATED or call.method.is_open
