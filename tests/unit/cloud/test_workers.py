"""Named threads, and stops that wait no longer than they may."""

import asyncio
import threading
import time

import numpy as np
import pytest

from spillover.cloud.serving.stopping import StopBudget, finished_by
from spillover.cloud.serving.workers import LOOP_BYTES, LOOP_ELEMENTS, Workers, is_large

A_MINUTE_S = 60.0


def _soon() -> float:
    return time.monotonic() + A_MINUTE_S


def test_work_runs_on_a_thread_and_its_error_comes_back():
    """`run` gives what the work gives, or raises what it raises; neither on the event loop's thread."""

    async def scenario() -> None:
        workers = Workers("test", 2)
        assert await workers.run("a look", threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await workers.run("a division", divmod, 1, 0)
        assert await workers.stop(_soon()) == []

    asyncio.run(scenario())


def test_only_what_is_large_goes_to_a_thread():
    """`run_if` spares the rest the change of thread."""

    async def scenario() -> list[bool]:
        workers = Workers("test", 1)
        here = [await workers.run_if(large, "a look", threading.get_ident) for large in (True, False)]
        await workers.stop(_soon())
        return [ident == threading.get_ident() for ident in here]

    assert asyncio.run(scenario()) == [False, True]


@pytest.mark.parametrize("hangs", [True, False])
def test_a_stop_waits_for_what_runs_drops_what_waits_and_names_what_hangs(hangs):
    """What has not begun is cancelled; what runs is waited for, and named if it has not ended in time."""
    gate, begun = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return gate.wait(A_MINUTE_S)

    async def scenario() -> list[str]:
        workers = Workers("test", 1)
        runs, waits = (asyncio.ensure_future(workers.run(what, work)) for what in ("run", "wait"))
        assert await asyncio.to_thread(begun.wait, A_MINUTE_S)
        stopping = asyncio.ensure_future(workers.stop(time.monotonic() if hangs else _soon()))
        with pytest.raises(asyncio.CancelledError):
            await waits
        if hangs:
            await stopping
        gate.set()
        assert await runs
        return await stopping

    assert asyncio.run(scenario()) == (["run"] if hangs else [])


def test_waiting_leaves_futures_alone_and_ends_coroutines():
    """At the deadline a future goes on, for others may have it; a coroutine is cancelled: nobody else can."""

    async def scenario() -> None:
        ended = asyncio.Event()

        async def endless() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        future = asyncio.get_running_loop().create_future()
        assert not await finished_by(time.monotonic(), future, endless())
        await ended.wait()
        assert not future.done()
        future.set_result(None)
        assert await finished_by(time.monotonic(), future)
        assert await finished_by(time.monotonic())

    asyncio.run(scenario())


def test_a_budget_is_shared_out_from_its_beginning():
    """A step's deadline is a share of the whole after the moment when the stop began."""
    budget = StopBudget(10.0, begun_s=100.0)
    assert [budget.until(share) for share in (0.0, 0.8, 1.0)] == [100.0, 108.0, 110.0]


@pytest.mark.parametrize(
    ("tensors", "large"),
    [
        ([], False),
        ([np.zeros(LOOP_BYTES, np.uint8)], False),
        ([np.zeros(1), np.zeros(LOOP_BYTES + 1, np.uint8)], True),
        ([np.full(LOOP_ELEMENTS, "a", np.object_)], False),
        ([np.full(LOOP_ELEMENTS + 1, "a", np.object_)], True),
        ([np.full(1, "a" * (LOOP_BYTES + 1), np.object_)], True),
    ],
)
def test_bytes_or_strings_make_a_tensor_large(tensors, large):
    """Arrays by their bytes; text by its strings, or by the length of them together."""
    assert is_large(tensors) == large
