"""The order of waiting work."""

import asyncio
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.cloud.serving.batching.queue import FairQueue, Work


@pytest.fixture(scope="module")
def loop():
    """A loop that never runs: futures need one to belong to."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def _work(loop, device="a", rows=1, width=2, **fields) -> Work:
    tensor = np.zeros((rows, width), np.float32)
    return Work((tensor,), rows, loop.create_future(), device, **fields)


WORKS = st.lists(
    st.fixed_dictionaries(
        {
            "device": st.sampled_from("abc"),
            "rows": st.integers(1, 5),
            "width": st.sampled_from([2, 3]),
            "priority": st.integers(0, 2),
            "due_s": st.sampled_from([1.0, 2.0, math.inf]),
            "expires_s": st.sampled_from([0.5, math.inf]),
        }
    ),
    max_size=30,
)


@given(WORKS, st.integers(1, 8))
def test_everything_comes_out_once_in_batches_that_fit(loop, fields, max_rows):
    """No work is lost or doubled; a batch is of one shape and fits, and what is dead is never in one."""
    works = [_work(loop, **one) for one in fields]
    queue = FairQueue()
    for work in works:
        queue.push(work)
    out: list[Work] = []
    while len(queue):
        batch, dead = queue.take(max_rows, now_s=1.0)
        assert len({work.signature for work in batch}) <= 1
        assert len(batch) <= 1 or sum(work.rows for work in batch) <= max_rows
        assert all(work.expires_s > 1 for work in batch)
        assert all(work.expires_s <= 1 for work in dead)
        assert batch or dead
        out += batch + dead
    assert sorted(map(id, out)) == sorted(map(id, works))
    assert queue.rows == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=20))
def test_one_device_is_served_by_priority_then_by_due_time(loop, keys):
    """Within a device the smaller priority comes first, then the earlier due time."""
    queue = FairQueue()
    for priority, due_s in keys:
        queue.push(_work(loop, priority=priority, due_s=due_s))
    taken = [queue.take(1, 0.0)[0][0] for _ in keys]
    assert [(work.priority, work.due_s) for work in taken] == sorted(keys)


def test_a_device_that_sends_much_delays_only_itself(loop):
    """Among the first six of a queue with 100 of one device and 3 of another are the other's 3."""
    queue = FairQueue()
    for _ in range(100):
        queue.push(_work(loop, "greedy", priority=0))
    for _ in range(3):
        queue.push(_work(loop, "modest", priority=9))
    batch, _ = queue.take(6, 0.0)
    assert Counter(work.device for work in batch) == {"greedy": 3, "modest": 3}


def test_work_whose_client_has_left_is_not_run(loop):
    """A cancelled request is found dead, and what came after it is run."""
    queue = FairQueue()
    gone, alive = _work(loop), _work(loop)
    queue.push(gone)
    queue.push(alive)
    gone.future.cancel()
    assert queue.take(4, 0.0) == ([alive], [gone])


def test_a_request_larger_than_a_batch_comes_alone(loop):
    """Nine rows with a limit of four are one batch, not a request that waits for ever."""
    queue = FairQueue()
    big, small = _work(loop, rows=9), _work(loop)
    queue.push(big)
    queue.push(small)
    assert queue.take(4, 0.0)[0] == [big]
    assert queue.take(4, 0.0)[0] == [small]
