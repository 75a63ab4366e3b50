"""Answers that nobody reads: their calls are cut off after a time, and with them go the bytes that wait."""

import asyncio
import gc
from collections.abc import Iterable
from typing import Any

import grpc

from spillover.cloud.rpc.call import ServedCall
from spillover.cloud.rpc.time_limit import TimeLimit
from spillover.common.errors import Cause
from spillover.common.log import get_logger

_CALL = "rpc_task"
"""The name that grpc.aio gives the task of a call, in which the task of its handler is awaited."""

Handler = asyncio.Task[Any]


class Writes:
    """The calls whose answer has been handed to gRPC and is not written yet.

    gRPC says when an answer has been written, and offers a server no way to give one up: only the call's
    end does that, which comes when its last reference goes.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit: TimeLimit[ServedCall] = TimeLimit(limit_s, self._not_read)
        self._to_cut_off: list[ServedCall] = []
        self._log = get_logger("calls")

    def begin(self, call: ServedCall) -> None:
        """An answer of this call is being written from now on."""
        self._limit.begin(call)

    def ended(self, call: ServedCall) -> None:
        """It has been written, or the call has ended."""
        self._limit.ended(call)

    def cut_off_soon(self, call: ServedCall) -> None:
        """End a call without an answer, together with the others of this moment: each time costs a search."""
        if not self._to_cut_off:
            asyncio.get_running_loop().call_soon(self._cut_off, self._to_cut_off)
        self._to_cut_off.append(call)

    def stop(self) -> None:
        """Check no more."""
        self._limit.stop()

    def _not_read(self, calls: list[ServedCall]) -> None:
        for call in calls:
            call.status, call.cause = grpc.StatusCode.CANCELLED, Cause.SLOW
        self._cut_off(calls)
        limit_s = self._limit.limit_s
        self._log.warning("cut off: answers were not read", calls=len(calls), limit_s=limit_s)

    def _cut_off(self, calls: list[ServedCall]) -> None:
        cut_off(call.task for call in calls)
        if calls is self._to_cut_off:
            self._to_cut_off = []


def cut_off(handlers: Iterable[Handler]) -> None:
    """End the calls of these handlers' tasks, whatever gRPC waits for in them.

    Each call's own task holds its handler's, and is found by that: grpc.aio tells neither of the other.
    """
    wanted = set(handlers)
    for task in asyncio.all_tasks():
        if task.get_name() == _CALL and wanted.intersection(_held_by(task)):
            task.cancel()
    for handler in wanted:
        handler.cancel()


def _held_by(task: Handler) -> list[Any]:
    return [
        held
        for closure in gc.get_referents(task.get_coro())
        for held in gc.get_referents(closure)
        if isinstance(held, asyncio.Task)
    ]
