"""One call while it is in hand: who makes it, until when, what it weighs, and how it ended."""

import asyncio
import copy
import math
import time
from typing import Any, Self

import grpc

from spillover.cloud.rpc.connections.keeper import Activity
from spillover.cloud.rpc.methods import Method
from spillover.cloud.security.audit import Actor
from spillover.cloud.security.roles import ANONYMOUS
from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.memory import Kind, Lease, Memory
from spillover.cloud.serving.room import CALL_BYTES
from spillover.cloud.serving.workers import LOOP_BYTES
from spillover.cloud.telemetry.calls import FinishedCall
from spillover.common.errors import Cause, ForbiddenError, OverloadedError
from spillover.common.security.tokens import Caller
from spillover.common.traces import TraceContext
from spillover.common.wire.conversion import DEVICE_KEY, ServerTimings

AnyContext = grpc.aio.ServicerContext[Any, Any]
NOBODY = Caller("", ANONYMOUS)


class ServedCall:
    """What servicers and the call wrapper know of a call.

    `holder` is who is charged for it: the proven name, else the connection. `device` is the proven name, else
    what the caller says of itself. `expires_s` is its end in `time.monotonic()` seconds.
    """

    def __init__(self, context: AnyContext, method: Method) -> None:
        self.context = context
        self.peer = context.peer()
        """The other side's address, as gRPC writes it."""
        self.method = method
        self.task = _current_task()
        """The task of its handler."""
        self.connection: Activity | None = None
        """What the calls of its connection have shown."""
        self.lease: Lease | None = None
        """What it has of `memory`."""
        self.memory: Memory | None = None
        self.aborted: grpc.aio.AbortError | None = None
        """What gRPC wants raised at the end of a refused call."""
        self.started_s = time.monotonic()
        left_s = context.time_remaining()
        self.expires_s = math.inf if left_s is None else self.started_s + left_s
        self.caller = NOBODY
        self.holder = self.device = self.named = ""
        self.received_bytes = self.sent_bytes = 0
        self.queue_wait_s = 0.0
        """How long the answer's request waited for the network; set by the servicer."""
        self.trace: TraceContext | None = None
        """The caller's span, if it has told of one."""
        self.timings: ServerTimings | None = None
        """Where the time of a frame went; set by the servicer."""
        self.payload = ""
        """What a frame came as; set by the servicer."""
        self.status = grpc.StatusCode.CANCELLED  # unless something else comes of it: the client has left
        self.cause: Cause | None = None
        """Why it was refused, if it was."""
        self.because = ""

    def name(self, caller: Caller, named: str) -> None:
        """Note who calls: proven to be `caller`, and `named` in the metadata. Raises ForbiddenError."""
        self.caller = caller
        self.named = named
        self.holder = caller.name or self.peer
        self._check(named, DEVICE_KEY)
        self.device = caller.name or named

    @property
    def is_proven(self) -> bool:
        """Whether the caller has proven a name."""
        return bool(self.caller.name)

    @property
    def network(self) -> str:
        """Whose turn it is among strangers: the address; of IPv6 the network of 64 bits that one site has."""
        return self.connection.network if self.connection else self.peer

    def charge(self, memory: Memory, holder: str, *, is_proven: bool) -> None:
        """Charge the call itself, without its message, to `holder`. Raises OverloadedError."""
        lease = memory.lease(holder, is_proven=is_proven)
        try:
            memory.charge(lease, Kind.CALLS, CALL_BYTES)
        except OverloadedError:
            memory.release(lease)
            raise
        self.memory, self.lease = memory, lease

    def release(self) -> None:
        """Give back what it has of the memory."""
        if self.memory and self.lease:
            self.memory.release(self.lease)
        self.memory = self.lease = None

    def of_device(self, claimed: str) -> Call:
        """The call as admission sees it, of the device that the message names. Raises ForbiddenError."""
        self._check(claimed, "device_id")
        return self.admitted(self.received_bytes, claimed)

    def admitted(self, message_bytes: int, claimed: str = "") -> Call:
        """The call as admission sees it, with a message of this length."""
        device = self.device or claimed or self.holder
        return Call(self.holder, device, self.expires_s, message_bytes > LOOP_BYTES, self.is_proven)

    @property
    def by(self) -> Actor:
        """Who calls, for the audit trail."""
        return Actor(self.caller.name, self.caller.role, self.peer)

    def of_message(self, message_bytes: int) -> Self:
        """One message of this call, if it is a stream, as if it were a call."""
        one = copy.copy(self)
        one.started_s = time.monotonic()
        one.received_bytes, one.sent_bytes = message_bytes, 0
        one.memory = one.lease = None
        return one

    def seen_by(self, method: Method) -> "AnyContext | ServedCall":
        """What the work of `method` is told of the call."""
        return self.context if method.of_library else self

    def end(self) -> FinishedCall:
        """What became of it."""
        return FinishedCall(
            self.method.name,
            self.status,
            time.monotonic() - self.started_s,
            self.peer,
            self.caller,
            self.received_bytes,
            self.sent_bytes,
            self.cause,
            self.because,
            self.payload,
            self.trace,
            self.timings,
        )

    def _check(self, claimed: str, where: str) -> None:
        known = self.caller.name or self.named
        if claimed and known and claimed != known:
            raise ForbiddenError(f"{where} is {claimed!r}, the caller is {known!r}")


def _current_task() -> asyncio.Task[Any]:
    if (task := asyncio.current_task()) is None:
        raise AssertionError("gRPC runs handlers in tasks")
    return task
