"""The batcher: right rows to everyone, whatever the others do, and nothing long on the event loop."""

import asyncio
import random
import threading
import time

import numpy as np
import pytest

from spillover.cloud.config import BatchingConfig
from spillover.cloud.executors.latency import SHORT_S
from spillover.cloud.serving.batching import Batcher, Work
from spillover.cloud.serving.workers import LOOP_BYTES
from spillover.common.errors import ModelError, UnavailableError
from tests.support.executors import ToyExecutor, known_to_be_quick, local_executor
from tests.support.models import identity

A_MINUTE_S = 60.0


class Seen:
    """An observer that remembers the batches."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def batch_done(self, rows, infer_s, queue_s) -> None:
        """Remember."""
        self.rows.append(rows)


@pytest.fixture
def network(tmp_path):
    """A real identity network."""
    return local_executor(identity(tmp_path))


@pytest.fixture
def gated():
    """An executor that is held until the test opens its gate, so that requests pile up behind."""
    executor = ToyExecutor()
    executor.gate.clear()
    return executor


def _work(value: float, rows: int = 1, **fields) -> Work:
    tensor = np.full((rows, 4), value, np.float32)
    return Work((tensor,), rows, asyncio.get_running_loop().create_future(), **fields)


async def _check(batcher: Batcher, value: float, rows: int = 1, factor: float = 2.0) -> None:
    answer = await batcher.run(_work(value, rows))
    np.testing.assert_array_equal(answer.outputs[0], np.full((rows, 4), factor * value, np.float32))


def _soon() -> float:
    """A deadline that no stop in these tests comes near."""
    return time.monotonic() + A_MINUTE_S


def test_waiting_requests_share_a_batch_and_get_their_own_rows(gated):
    """What waits behind a running batch goes together, at most max_batch_size rows; each gets its values."""

    async def scenario() -> list[int]:
        seen = Seen()
        batcher = Batcher(gated, BatchingConfig(max_batch_size=8), seen)
        asks = [asyncio.create_task(_check(batcher, value, 1 + value % 3)) for value in range(12)]
        await asyncio.sleep(0)  # all are queued now
        gated.gate.set()
        await asyncio.gather(*asks)
        await batcher.stop(_soon())
        return seen.rows

    rows = asyncio.run(scenario())
    assert sum(rows) == sum(1 + value % 3 for value in range(12))
    assert max(rows) <= 8
    assert len(rows) < 12


def test_a_lone_request_waits_for_nobody(network):
    """Without a queue delay a single request is a batch of one row, not one that waits to be filled."""

    async def scenario() -> list[int]:
        seen = Seen()
        batcher = Batcher(network, BatchingConfig(max_batch_size=8), seen)
        for value in range(3):
            await _check(batcher, value, factor=1)
        await batcher.stop(_soon())
        return seen.rows

    assert asyncio.run(scenario()) == [1, 1, 1]


def _threads(executor: ToyExecutor, *shapes: tuple[int, ...]) -> list[bool]:
    """Of requests of these shapes, one after the other, which were run on the event loop."""

    async def scenario() -> None:
        batcher = Batcher(executor, BatchingConfig(max_batch_size=8), Seen())
        for shape in shapes:
            future = asyncio.get_running_loop().create_future()
            await batcher.run(Work((np.ones(shape, np.float32),), shape[0], future))
        await batcher.stop(_soon())

    asyncio.run(scenario())
    assert [run.shape for run in executor.runs] == list(shapes)
    return [run.thread == threading.get_ident() for run in executor.runs]


def test_a_run_shorter_than_handing_it_over_stays_on_the_loop():
    """A network known to be quick is run where the request is; one that is not, by an instance's thread."""
    executor = ToyExecutor()
    executor.latency.learn(1, 1e-4)
    executor.latency.learn(2, 2e-4)
    assert _threads(executor, (1, 4), (3, 4)) == [True, False]


def test_a_network_with_another_free_axis_never_runs_on_the_loop():
    """However quick its runs have been: the next input may be long, and take seconds."""
    executor = known_to_be_quick(ToyExecutor((-1, -1)))
    assert _threads(executor, (1, 1), (1, 4), (2, 1)) == [False] * 3


@pytest.mark.parametrize("shape", [(-1, 4), (2, -1), (-1, 4, -1), (-1,)])
def test_rows_and_bytes_on_the_loop_are_bounded(shape):
    """Where shapes are fixed, inputs and outputs of a run on the loop have at most LOOP_BYTES together."""
    executor = known_to_be_quick(ToyExecutor(shape))
    fixed = [4 if length < 0 else length for length in shape[1:]]
    rows = LOOP_BYTES // (2 * 4 * int(np.prod(fixed)))
    on_loop = _threads(executor, (1, *fixed), (rows + 1, *fixed))
    assert on_loop == [-1 not in shape[1:] and shape[0] == -1, False]


def test_a_network_that_was_slow_lately_does_not_run_on_the_loop():
    """One slow run, in whatever way it came about, and the next runs are on a thread."""
    executor = known_to_be_quick(ToyExecutor())
    executor.latency.learn(1, 2 * SHORT_S)
    assert _threads(executor, (1, 4)) == [False]


def test_a_preferred_size_ends_the_wait(network):
    """With an hour of queue delay, two rows run as soon as two are there, because two is preferred."""

    async def scenario() -> list[int]:
        seen = Seen()
        config = BatchingConfig(max_batch_size=8, max_queue_delay_s=3600, preferred_sizes=(2,))
        batcher = Batcher(network, config, seen)
        await asyncio.gather(_check(batcher, 1, factor=1), _check(batcher, 2, factor=1))
        await batcher.stop(_soon())
        return seen.rows

    assert asyncio.run(scenario()) == [2]


def test_one_bad_request_costs_the_others_nothing(gated):
    """A request that makes the network fail gets the error; those in its batch get their answers."""

    async def scenario() -> None:
        batcher = Batcher(gated, BatchingConfig(max_batch_size=8), Seen())
        first = asyncio.create_task(_check(batcher, 0))
        bad = asyncio.create_task(_check(batcher, -1))
        good = [asyncio.create_task(_check(batcher, value)) for value in (1, 2)]
        await asyncio.sleep(0)
        gated.gate.set()
        await asyncio.gather(first, *good)
        with pytest.raises(ModelError, match="a row of -1"):
            await bad
        await batcher.stop(_soon())

    asyncio.run(scenario())


def test_clients_that_leave_at_any_moment_hurt_nobody(network):
    """Of 2000 requests a third is cancelled at random moments; all others get their own values."""
    rng = random.Random(7)

    async def scenario() -> int:
        batcher = Batcher(network, BatchingConfig(max_batch_size=8, instances=2), Seen())

        async def one(value: int) -> bool:
            ask = asyncio.create_task(_check(batcher, value, factor=1))
            if rng.random() < 1 / 3:
                for _ in range(rng.randrange(6)):
                    await asyncio.sleep(0)
                ask.cancel()
            try:
                await ask
            except asyncio.CancelledError:
                return False
            return True

        answered = sum(await asyncio.gather(*map(one, range(2000))))
        await _check(batcher, 1, factor=1)
        await batcher.stop(_soon())
        return answered

    assert asyncio.run(scenario()) >= 1000


def test_stop_finishes_what_is_queued_and_takes_nothing_more(gated):
    """What was accepted before stop is answered; what comes after is refused."""

    async def scenario() -> None:
        batcher = Batcher(gated, BatchingConfig(max_batch_size=1), Seen())
        asks = [asyncio.create_task(_check(batcher, value)) for value in range(5)]
        await asyncio.sleep(0)
        stopping = asyncio.create_task(batcher.stop(_soon()))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError):
            await _check(batcher, 9)
        gated.gate.set()
        await asyncio.gather(*asks)
        assert await stopping

    asyncio.run(scenario())


def test_a_run_that_hangs_is_left_behind(gated):
    """At the deadline `stop` returns False, and every request fails, the running and the queued alike."""

    async def scenario() -> None:
        batcher = Batcher(gated, BatchingConfig(max_batch_size=1), Seen())
        asks = [asyncio.create_task(_check(batcher, value)) for value in range(3)]
        assert await asyncio.to_thread(gated.reached.wait, A_MINUTE_S)
        assert not await batcher.stop(time.monotonic())
        for ask in asks:
            with pytest.raises(UnavailableError, match="hung"):
                await ask
        gated.gate.set()  # what comes then is for nobody
        assert await batcher.stop(_soon())

    asyncio.run(scenario())


def test_clients_that_come_back_share_their_next_run(gated):
    """With a run that costs an hour beside its rows, three that wait are not run without the one answered."""

    async def scenario() -> list[int]:
        seen = Seen()
        gated.latency.learn(1, 3600)
        gated.latency.learn(2, 3600)
        batcher = Batcher(gated, BatchingConfig(max_batch_size=8), seen)
        first = asyncio.create_task(_check(batcher, 0))
        assert await asyncio.to_thread(gated.reached.wait, 60)
        others = [asyncio.create_task(_check(batcher, value)) for value in range(1, 4)]
        await asyncio.sleep(0)  # they are queued now
        gated.gate.set()
        await first
        await asyncio.gather(_check(batcher, 0), *others)
        await batcher.stop(_soon())
        return seen.rows

    assert asyncio.run(scenario()) == [1, 4]
