"""The batcher with real networks: right rows to everyone, whatever the others do."""

import asyncio
import random
import threading

import numpy as np
import pytest

from spillover.cloud.config import BatchingConfig
from spillover.cloud.executors.latency import LatencyModel
from spillover.cloud.executors.local import Network
from spillover.cloud.serving.batching import Batcher, Work
from spillover.common.errors import ModelError, UnavailableError
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.model.session import open_session
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import ModelId
from tests.support.models import identity


class Seen:
    """An observer that remembers the batches."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def batch_done(self, rows, infer_s, queue_s) -> None:
        """Remember."""
        self.rows.append(rows)


class Gated:
    """The real network, held at a gate until the test opens it, so that requests pile up behind."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.gate, self.reached = threading.Event(), threading.Event()
        self.batchable, self.fixed_rows = network.batchable, network.fixed_rows
        self.costs = LatencyModel()  # nobody knows: so it is never run on the event loop

    def run(self, inputs):
        """Run once the gate is open; a row of -1 is an error, as a bad index would be."""
        self.reached.set()
        assert self.gate.wait(60)
        if (inputs[0] == -1).any():
            raise ModelError("a row of -1")
        return self._network.run(inputs)


@pytest.fixture
def network(tmp_path):
    """A real identity network."""
    path = identity(tmp_path) / MODEL_FILE
    return Network(ModelId("identity", "1"), open_session(path, SessionConfig(threads=1)))


def _work(value: float, rows: int = 1, **fields) -> Work:
    tensor = np.full((rows, 4), value, np.float32)
    return Work((tensor,), rows, asyncio.get_running_loop().create_future(), **fields)


async def _check(batcher: Batcher, value: float, rows: int = 1) -> None:
    answer = await batcher.run(_work(value, rows))
    np.testing.assert_array_equal(answer.outputs[0], np.full((rows, 4), value, np.float32))


def test_waiting_requests_share_a_batch_and_get_their_own_rows(network):
    """What waits behind a running batch goes together, at most max_batch_size rows; each gets its values."""

    async def scenario() -> list[int]:
        seen, gated = Seen(), Gated(network)
        batcher = Batcher(gated, BatchingConfig(max_batch_size=8), seen)
        asks = [asyncio.create_task(_check(batcher, value, 1 + value % 3)) for value in range(12)]
        await asyncio.sleep(0)  # all are queued now
        gated.gate.set()
        await asyncio.gather(*asks)
        await batcher.stop()
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
            await _check(batcher, value)
        await batcher.stop()
        return seen.rows

    assert asyncio.run(scenario()) == [1, 1, 1]


def test_a_run_shorter_than_handing_it_over_stays_on_the_loop(network):
    """A network known to be quick is run by whoever asks; one that is not, by an instance's thread."""
    threads: list[int] = []

    class Watched(Gated):
        def run(self, inputs):
            threads.append(threading.get_ident())
            return super().run(inputs)

    async def scenario() -> None:
        watched = Watched(network)
        watched.costs.learn(1, 1e-4)
        watched.costs.learn(2, 2e-4)
        watched.gate.set()
        batcher = Batcher(watched, BatchingConfig(), Seen())
        await _check(batcher, 1)
        await _check(batcher, 2, rows=3)
        await batcher.stop()

    asyncio.run(scenario())
    assert threads[0] == threading.get_ident()
    assert threads[1] != threading.get_ident()


def test_a_preferred_size_ends_the_wait(network):
    """With an hour of queue delay, two rows run as soon as two are there, because two is preferred."""

    async def scenario() -> list[int]:
        seen = Seen()
        config = BatchingConfig(max_batch_size=8, max_queue_delay_s=3600, preferred_sizes=(2,))
        batcher = Batcher(network, config, seen)
        await asyncio.gather(_check(batcher, 1), _check(batcher, 2))
        await batcher.stop()
        return seen.rows

    assert asyncio.run(scenario()) == [2]


def test_one_bad_request_costs_the_others_nothing(network):
    """A request that makes the network fail gets the error; those in its batch get their answers."""

    async def scenario() -> None:
        gated = Gated(network)
        batcher = Batcher(gated, BatchingConfig(max_batch_size=8), Seen())
        first = asyncio.create_task(_check(batcher, 0))
        bad = asyncio.create_task(_check(batcher, -1))
        good = [asyncio.create_task(_check(batcher, value)) for value in (1, 2)]
        await asyncio.sleep(0)
        gated.gate.set()
        await asyncio.gather(first, *good)
        with pytest.raises(ModelError, match="a row of -1"):
            await bad
        await batcher.stop()

    asyncio.run(scenario())


def test_clients_that_leave_at_any_moment_hurt_nobody(network):
    """Of 2000 requests a third is cancelled at random moments; all others get their own values."""
    rng = random.Random(7)

    async def scenario() -> int:
        batcher = Batcher(network, BatchingConfig(max_batch_size=8, instances=2), Seen())

        async def one(value: int) -> bool:
            ask = asyncio.create_task(_check(batcher, value))
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
        await _check(batcher, 1)
        await batcher.stop()
        return answered

    assert asyncio.run(scenario()) >= 1000


def test_stop_finishes_what_is_queued_and_takes_nothing_more(network):
    """What was accepted before stop is answered; what comes after is refused."""

    async def scenario() -> None:
        gated = Gated(network)
        batcher = Batcher(gated, BatchingConfig(max_batch_size=1), Seen())
        asks = [asyncio.create_task(_check(batcher, value)) for value in range(5)]
        await asyncio.sleep(0)
        stopping = asyncio.create_task(batcher.stop())
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError):
            await _check(batcher, 9)
        gated.gate.set()
        await asyncio.gather(stopping, *asks)

    asyncio.run(scenario())


def test_clients_that_come_back_share_their_next_run(network):
    """With a run that costs an hour beside its rows, three that wait are not run without the one answered."""

    async def scenario() -> list[int]:
        seen, gated = Seen(), Gated(network)
        gated.costs.learn(1, 3600)
        gated.costs.learn(2, 3600)
        batcher = Batcher(gated, BatchingConfig(max_batch_size=8), seen)
        first = asyncio.create_task(_check(batcher, 0))
        assert await asyncio.to_thread(gated.reached.wait, 60)
        others = [asyncio.create_task(_check(batcher, value)) for value in range(1, 4)]
        await asyncio.sleep(0)  # they are queued now
        gated.gate.set()
        await first
        await asyncio.gather(_check(batcher, 0), *others)
        await batcher.stop()
        return seen.rows

    assert asyncio.run(scenario()) == [1, 4]
