"""Reading the messages of a call: under a permit, within a time, and for the caller's rate."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from grpc.aio import EOF  # type: ignore[attr-defined]  # missing in the stubs

from spillover.cloud.rpc.call import ServedCall
from spillover.cloud.rpc.methods import OPEN_REQUEST_BYTES
from spillover.cloud.rpc.parsing import Parser
from spillover.cloud.rpc.time_limit import TimeLimit
from spillover.cloud.serving.admission import RateLimiter
from spillover.cloud.serving.memory import Kind, Lease, Memory
from spillover.cloud.serving.room import CALL_BYTES, WORKING_FACTOR, Room
from spillover.common.errors import (
    MalformedError,
    MessageTooLongError,
    OverloadedError,
    SlowCallerError,
    SpilloverError,
)

OPEN_LIMIT_S = 1.0
"""How long a message of a method that is open to everybody may take; it is a few bytes."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message of a stream, or why it is not taken. `lease` is what it has of the memory."""

    request: Any
    message_bytes: int
    lease: Lease
    error: SpilloverError | None = None

    def taken(self) -> Any:  # noqa: ANN401 - a message
        """The message. Raises why it is not taken."""
        if self.error:
            raise self.error
        return self.request


@dataclass(eq=False, slots=True)
class _Reading:
    """A message that is being read by `task`."""

    task: asyncio.Task[Any]
    began_s: float
    is_given_up: bool = False

    def give_up(self) -> None:
        """Read no longer."""
        if not self.is_given_up:
            self.is_given_up = True
            self.task.cancel()


def _give_up(readings: list[_Reading]) -> None:
    for reading in readings:
        reading.give_up()


class Receiver:
    """Reads messages for the caller's rate, within the room that there is, and parses them."""

    def __init__(self, room: Room, parser: Parser, rate: RateLimiter, body_timeout_s: float) -> None:
        self._memory = room.memory
        self._open_permits = room.open_permits
        self._parser = parser
        self._rate = rate
        self._limit = TimeLimit(body_timeout_s, _give_up)
        self._open_limit = TimeLimit(OPEN_LIMIT_S, _give_up)

    async def one(self, call: ServedCall) -> Any:  # noqa: ANN401 - a message
        """The one message of a call.

        Raises:
            OverloadedError: over the caller's rate, or no memory in time.
            SlowCallerError: it did not come in time.
            MalformedError, TooLargeError, MessageTooLongError: it is not to be had, or cannot be read.
        """
        method = call.method
        if method.has_no_body:
            return method.request()
        if method.is_rated:
            self._rate.spend(call.holder)
        if method.is_open:
            data = await self._open_message(call)
        else:
            data = await self._permitted(call, self._memory, _lease_of(call), self._limit)
            self._memory.charge(_lease_of(call), Kind.WORKING, CALL_BYTES + WORKING_FACTOR * len(data))
        return await self._parser.parse(data, method.request, method.name)

    async def each(self, call: ServedCall, leases: deque[Lease]) -> AsyncIterator[Incoming]:
        """The messages of a stream, and to `leases` what each of them has of the memory.

        A stream holds one permit for its whole life: gRPC takes in what comes once it is asked for a message.

        Raises:
            OverloadedError: there was no memory in time for the permit.
            MalformedError: a message is none; what was read before is answered.
        """
        until_s = min(call.expires_s, time.monotonic() + self._limit.limit_s)
        await self._memory.permit(_lease_of(call), until_s)
        while (data := await call.context.read()) is not EOF:
            call.received_bytes += len(data)
            lease = self._memory.lease(call.holder, is_proven=call.is_proven)
            leases.append(lease)
            request = error = None
            try:
                if call.method.is_rated:
                    self._rate.spend(call.holder)
                self._memory.charge(lease, Kind.WORKING, WORKING_FACTOR * len(data))
            except OverloadedError as refused:
                error = refused
            else:
                request = await self._parser.parse(data, call.method.request, call.method.name)
            yield Incoming(request, len(data), lease, error)

    async def _open_message(self, call: ServedCall) -> bytes:
        permits = self._open_permits
        lease = permits.lease(call.network, is_proven=False)
        try:
            data = await self._permitted(call, permits, lease, self._open_limit)
        finally:
            permits.release(lease)
        if len(data) > OPEN_REQUEST_BYTES:
            raise MessageTooLongError(
                f"{len(data)} bytes; {call.method.name} takes at most {OPEN_REQUEST_BYTES}"
            )
        return data

    async def _permitted(
        self, call: ServedCall, memory: Memory, lease: Lease, limit: TimeLimit[_Reading]
    ) -> bytes:
        reading = _Reading(call.task, time.monotonic())
        await memory.permit(lease, min(call.expires_s, reading.began_s + limit.limit_s), reading.give_up)
        reading.began_s = time.monotonic()
        limit.begin(reading)
        try:
            data = await call.context.read()
        except asyncio.CancelledError:
            if not reading.is_given_up or reading.task.uncancel():
                raise
            memory.strike(lease)
            took_s = time.monotonic() - reading.began_s
            raise SlowCallerError(f"the message did not come within {took_s:.1f} s") from None
        finally:
            limit.ended(reading)
            memory.has_come(lease)
        if data is EOF:
            raise MalformedError("the call ended without a message")
        message: bytes = data
        call.received_bytes += len(message)
        return message


def _lease_of(call: ServedCall) -> Lease:
    if call.lease is None:
        raise AssertionError("the call has not been let in")
    return call.lease
