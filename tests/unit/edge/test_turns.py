"""Fair turns: a camera that gives much keeps no other waiting."""

import threading
from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from spillover.edge.camera.turns import FairTurns
from spillover.edge.runtime.queues import BoundedQueue, WhenFull
from tests.support.edge_values import frame


class Given:
    """A camera whose frames a test puts in; a frame's number says whose it is."""

    def __init__(self, number, count=0):
        self._frames = deque([frame(number)] * count)
        self.has_ended = False
        self.ready = None

    def call_on_frame(self, ready):
        """Note whom to call."""
        self.ready = ready

    def poll(self):
        """The oldest, if there is one."""
        return self._frames.popleft() if self._frames else None


def test_cameras_with_frames_take_turns():
    """One with many frames and two with few: round robin, and who has none is passed over."""
    cameras = [Given(0, 5), Given(1, 1), Given(2, 2)]
    turns = FairTurns(cameras)
    assert [turns.next()[0] for _ in range(8)] == [0, 1, 2, 0, 2, 0, 0, 0]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_no_camera_waits_for_more_than_one_frame_of_each_other(counts):
    """While a camera has frames, no other gets two turns between two of its own."""
    cameras = [Given(number, count) for number, count in enumerate(counts)]
    for camera in cameras:
        camera.has_ended = True
    turns = FairTurns(cameras)
    order = [turn[0] for turn in iter(turns.next, None)]
    assert Counter(order) == Counter({number: count for number, count in enumerate(counts) if count})
    for number, count in enumerate(counts):
        places = [place for place, taken in enumerate(order) if taken == number]
        assert len(places) == count
        for before, after in zip([-1, *places], places, strict=False):
            between = Counter(order[before + 1 : after])
            assert all(times <= 1 for times in between.values())


def test_the_numbers_are_those_of_the_cameras():
    """The frame that is returned is one of the camera that is named."""
    turns = FairTurns([Given(7, 2), Given(8, 2)])
    found = [turns.next() for _ in range(4)]
    assert [(number, taken.sequence) for number, taken in found] == [(0, 7), (1, 8), (0, 7), (1, 8)]


def test_the_end_comes_when_every_camera_has_ended():
    """Not before: another may still give frames, which wake who waits."""
    cameras = [Given(0), Given(1)]
    cameras[0].has_ended = True
    turns, found = FairTurns(cameras), []
    waiting = threading.Thread(target=lambda: found.extend(iter(turns.next, None)))
    waiting.start()
    cameras[1]._frames.append(frame(1))
    cameras[1].ready()
    cameras[1].has_ended = True
    cameras[1].ready()
    waiting.join(30)
    assert [number for number, _ in found] == [1]


def test_who_ends_the_cameras_never_waits_for_a_read():
    """A camera at pace `fast` may read its source when it is polled, and hang there."""
    inside, go_on = threading.Event(), threading.Event()

    class Hangs(Given):
        def poll(self):
            inside.set()
            go_on.wait(30)
            self.has_ended = True

    camera = Hangs(0)
    turns = FairTurns([camera])
    waiting = threading.Thread(target=turns.next)
    waiting.start()
    assert inside.wait(30)
    stopping = threading.Thread(target=camera.ready)
    stopping.start()
    stopping.join(10)
    assert not stopping.is_alive()
    go_on.set()
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_queue_can_be_polled():
    """`poll` never waits; closed and empty is the end."""
    queue = BoundedQueue(2, WhenFull.DROP_OLDEST)
    assert queue.poll() is None
    assert [queue.put(item) for item in (1, 2, 3)] == [None, None, 1]
    queue.close()
    assert not queue.has_ended
    assert [queue.poll(), queue.poll(), queue.poll()] == [2, 3, None]
    assert queue.has_ended


def test_the_end_of_a_camera_is_told_once_after_its_last_frame():
    """While the others go on; what is held for it can be let go."""
    told = []
    cameras = [Given(0, 3), Given(1, 1)]
    turns = FairTurns(cameras, told.append)
    cameras[1].has_ended = True
    seen = [(turns.next()[0], list(told)) for _ in range(4)]
    assert seen == [(0, []), (1, []), (0, []), (0, [1])]
    cameras[0].has_ended = True
    assert turns.next() is None
    assert sorted(told) == [0, 1]
