"""Where gRPC ends: identity, deadline, errors, trailing metadata and counting, for every method.

Servicers pass their work to `CallWrapper.handle` and deal with none of it.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import grpc

from spillover.cloud.rpc.connections.keeper import Activity, Connections
from spillover.cloud.rpc.handlers import AnyContext
from spillover.cloud.rpc.status import details_of, status_of, trailing_metadata
from spillover.cloud.serving.admission import Call
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.errors import ForbiddenError, SpilloverError
from spillover.common.log import get_logger

LOAD_KEY = "spillover-load"
QUEUE_WAIT_KEY = "spillover-queue-wait-us"
INTERNAL = grpc.StatusCode.INTERNAL
_LOAD_HINT_AGE_S = 0.01

T = TypeVar("T")


class Identify(Protocol):
    """Finds out the proven identity of a caller: where certificates and tokens come in."""

    def __call__(self, context: AnyContext) -> str:
        """The device's proven name, empty when nothing is proven. Raises SpilloverError to refuse."""
        ...


def nobody_proven(context: AnyContext) -> str:
    """Without transport security nothing is proven."""
    del context
    return ""


class CallWrapper:
    """Wraps the work of every method of every servicer.

    `load` gives how full the server is; `is_large` whether the running call's request is a large one.
    """

    def __init__(
        self,
        metrics: Metrics,
        load: Callable[[], float],
        identify: Identify,
        connections: Connections,
        is_large: Callable[[], bool] = lambda: False,
    ) -> None:
        self.in_flight = 0
        self.calls = 0
        """How many have come since the start."""
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        metrics.in_flight.set_function(lambda: self.in_flight)
        self._metrics = metrics
        self._load = load
        self._load_hint = ""
        self._load_hint_until_s = 0.0
        self._identify = identify
        self._connections = connections
        self._is_large = is_large
        self._log = get_logger("calls")

    async def handle(
        self,
        context: AnyContext,
        method: str,
        work: Callable[[Call], Awaitable[T]],
        *,
        claimed_device: str = "",
        queue_wait_s: Callable[[T], float] = lambda _: 0.0,
    ) -> T:
        """Run `work`; its errors become statuses. `claimed_device` is who the caller says it is."""
        try:
            answer = await self._held(self.run(context, method, work, claimed_device=claimed_device))
        except SpilloverError as error:
            trailing = (*self._hints(0.0), *trailing_metadata(error))
            await context.abort(status_of(error), details_of(error), trailing)
        except Exception:  # noqa: BLE001 - the client must learn that it is our fault; abort raises
            await context.abort(INTERNAL, "internal error; the server's log has it", self._hints(0.0))
        context.set_trailing_metadata(self._hints(queue_wait_s(answer)))
        return answer

    @contextmanager
    def holding_answers(self) -> Iterator[None]:
        """While inside, calls are taken up and worked on, and their answers wait."""
        self._may_answer.clear()
        try:
            yield
        finally:
            self._may_answer.set()

    async def _held(self, run: Awaitable[T]) -> T:
        try:
            return await run
        finally:
            if not self._may_answer.is_set():
                await self._may_answer.wait()

    async def run(
        self,
        context: AnyContext,
        method: str,
        work: Callable[[Call], Awaitable[T]],
        *,
        claimed_device: str = "",
    ) -> T:
        """Run `work` and count how it went; its errors are the caller's to report, as on a stream."""
        self.in_flight += 1
        self.calls += 1
        status = grpc.StatusCode.CANCELLED  # unless something else comes of it: the client has left
        connection = self._connections.began(context.peer())
        try:
            answer = await work(self._call(context, claimed_device, connection))
        except SpilloverError as error:
            status = status_of(error)
            self._metrics.rejected.labels(type(error).__name__).inc()
            if status is INTERNAL:
                self._log.error("request failed", method=method, error=str(error))
            raise
        except Exception:
            status = INTERNAL
            self._log.exception("request failed", method=method)
            raise
        else:
            status = grpc.StatusCode.OK
            return answer
        finally:
            self._connections.ended(connection, answered=status is grpc.StatusCode.OK)
            self.in_flight -= 1
            self._metrics.answered(method, status)

    def _call(self, context: AnyContext, claimed_device: str, connection: Activity) -> Call:
        now_s = time.monotonic()
        left_s = context.time_remaining()
        proven = self._identify(context)
        if proven:
            connection.prove(proven)
        if proven and claimed_device and claimed_device != proven:
            raise ForbiddenError(f"device_id is {claimed_device!r}, the caller is {proven!r}")
        device = proven or claimed_device or context.peer().rpartition(":")[0]  # without its port
        return Call(device, math.inf if left_s is None else now_s + left_s, self._is_large())

    def _hints(self, queue_wait_s: float) -> tuple[tuple[str, str], ...]:
        return (QUEUE_WAIT_KEY, str(round(queue_wait_s * 1e6))), (LOAD_KEY, self._fresh_load_hint())

    def _fresh_load_hint(self) -> str:
        """The load, computed anew after a moment: with many models, computing it at every answer costs."""
        now_s = time.monotonic()
        if now_s >= self._load_hint_until_s:
            self._load_hint = f"{self._load():.3f}"
            self._load_hint_until_s = now_s + _LOAD_HINT_AGE_S
        return self._load_hint
