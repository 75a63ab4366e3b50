"""What happens when a queue is full, empty or closed."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.edge.runtime.queues import BoundedQueue, WhenFull

PATIENCE_S = 30.0


@given(items=st.lists(st.integers(), max_size=30), capacity=st.integers(1, 5))
def test_newest_wins(items: list[int], capacity: int) -> None:
    """DROP_OLDEST keeps the last items in order and hands back each of the others, none twice."""
    queue: BoundedQueue[int] = BoundedQueue(capacity, WhenFull.DROP_OLDEST)
    dropped = [d for item in items if (d := queue.put(item)) is not None]
    queue.close()
    kept = list(iter(queue.get, None))
    assert dropped + kept == items
    assert kept == items[-capacity:]


@given(items=st.lists(st.integers(), max_size=30), capacity=st.integers(1, 5))
def test_oldest_stay(items: list[int], capacity: int) -> None:
    """DROP_NEWEST keeps the first items and hands back the rest."""
    queue: BoundedQueue[int] = BoundedQueue(capacity, WhenFull.DROP_NEWEST)
    dropped = [d for item in items if (d := queue.put(item)) is not None]
    queue.close()
    assert list(iter(queue.get, None)) == items[:capacity]
    assert dropped == items[capacity:]


def test_blocking_loses_nothing() -> None:
    """BLOCK makes a fast producer wait for a slow consumer: everything arrives, in order."""
    queue: BoundedQueue[int] = BoundedQueue(2, WhenFull.BLOCK)

    def produce() -> None:
        for item in range(200):
            queue.put(item)
        queue.close()

    producer = threading.Thread(target=produce)
    producer.start()
    assert list(iter(queue.get, None)) == list(range(200))
    producer.join(PATIENCE_S)


def test_close_wakes_a_blocked_producer() -> None:
    """A producer that waits for room is let go by `close`, and gets its item back."""
    queue: BoundedQueue[int] = BoundedQueue(1, WhenFull.BLOCK)
    queue.put(1)
    returned: list[int | None] = []
    producer = threading.Thread(target=lambda: returned.append(queue.put(2)))
    producer.start()
    queue.close()
    producer.join(PATIENCE_S)
    assert returned == [2]


def test_close_wakes_a_waiting_consumer() -> None:
    """A consumer of an empty queue gets None as soon as it is closed."""
    queue: BoundedQueue[int] = BoundedQueue(1, WhenFull.DROP_OLDEST)
    got: list[int | None] = [0]
    consumer = threading.Thread(target=lambda: got.append(queue.get()))
    consumer.start()
    queue.close()
    consumer.join(PATIENCE_S)
    assert got == [0, None]


def test_discard_tells_what_it_cost() -> None:
    """`discard` empties the queue and gives what was in it, oldest first."""
    queue: BoundedQueue[int] = BoundedQueue(3, WhenFull.DROP_OLDEST)
    for item in range(3):
        queue.put(item)
    assert len(queue.discard()) == 3
    assert len(queue) == 0


@pytest.mark.parametrize(("filled", "room"), [(1, True), (2, False)])
def test_room_is_told(filled: int, room: bool) -> None:
    """`wait_for_room` tells whether there is room, and does not wait beyond its limit."""
    queue: BoundedQueue[int] = BoundedQueue(2, WhenFull.DROP_NEWEST)
    for item in range(filled):
        queue.put(item)
    assert queue.wait_for_room(0) is room


def test_what_must_not_be_dropped_goes_beyond_the_capacity() -> None:
    """`put_beyond` adds where there is no room, in order, until the queue is closed."""
    queue: BoundedQueue[int] = BoundedQueue(1, WhenFull.DROP_NEWEST)
    assert queue.put(1) is None
    assert queue.put_beyond(2)
    assert queue.put(3) == 3
    queue.close()
    assert not queue.put_beyond(4)
    assert list(iter(queue.get, None)) == [1, 2]


def test_a_queue_that_is_resized_keeps_what_it_has() -> None:
    """Smaller: nothing goes in until there is room. Larger: whoever waits for room gets it."""
    queue: BoundedQueue[int] = BoundedQueue(2, WhenFull.DROP_NEWEST)
    assert [queue.put(1), queue.put(2)] == [None, None]
    queue.resize(1)
    assert queue.get() == 1
    assert queue.put(3) == 3
    queue.resize(2)
    assert queue.wait_for_room(PATIENCE_S)
    assert queue.put(4) is None
    queue.close()
    assert list(iter(queue.get, None)) == [2, 4]
