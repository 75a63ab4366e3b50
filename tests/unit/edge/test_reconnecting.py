"""A live camera that drops, freezes, tears or changes its size is reported and comes back by itself."""

import itertools
import threading

import numpy as np
import pytest

from spillover.common.errors import SourceError
from spillover.edge.camera import reconnecting
from spillover.edge.camera.reconnecting import MAX_CAUSES, MAX_UNREADABLE, ResilientSource
from spillover.edge.camera.source import CameraState, Picture, UnreadablePictureError

GONE = SourceError("gone")
TORN = UnreadablePictureError("torn")


class Scripted:
    """Gives pictures, errors, or the end, as the test says."""

    live = True
    fps = 25.0

    def __init__(self, *script):
        self._script = iter(script)
        self.closed = False

    def read(self):
        """The next item; an error is raised."""
        item = next(self._script)
        if isinstance(item, Exception):
            raise item
        return None if item is None else Picture(item, 0.0)

    def rewind(self):
        """Not asked for."""

    def close(self):
        """Note it."""
        self.closed = True


class Clock:
    """Seconds that a test sets."""

    now_s = 0.0

    def __call__(self):
        """The seconds set."""
        return self.now_s


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(reconnecting, "PAUSE_MIN_S", 0.0)


def _picture(value, size=(20, 30)):
    return np.full((*size, 3), value, np.uint8)


def _watched(first, *later, frozen_after_s=10.0, clock=None):
    sources, states = list(later), []
    source = ResilientSource(
        lambda: sources.pop(0),
        lambda state, detail: states.append((state, detail)),
        frozen_after_s,
        clock or Clock(),
        first,
    )
    return source, states


@pytest.mark.parametrize("end", [GONE, None])
def test_a_lost_stream_is_opened_again(end):
    """Error or end of stream: `lost` is reported, the old connection closed, and pictures go on."""
    first = Scripted(_picture(1), end)
    source, states = _watched(first, Scripted(_picture(2)))
    assert [source.read().image[0, 0, 0] for _ in range(2)] == [1, 2]
    assert [state for state, _ in states] == [CameraState.OK, CameraState.LOST, CameraState.OK]
    assert first.closed


def test_opening_that_fails_is_tried_again():
    """A camera that is away for long: `lost` is reported once."""
    first = Scripted(GONE)
    tries = iter([GONE, GONE, Scripted(_picture(3))])

    def reopen():
        found = next(tries)
        if isinstance(found, Exception):
            raise found
        return found

    states = []
    source = ResilientSource(reopen, lambda state, _: states.append(state), 10.0, source=first)
    assert source.read().image[0, 0, 0] == 3
    assert states == [CameraState.LOST, CameraState.OK]


def test_a_camera_that_is_not_there_at_the_start_is_lost_until_it_comes():
    """Without a first connection `read` makes it; each new cause is told once, then `ok`."""
    tries = iter([SourceError("absent"), SourceError("absent"), SourceError("busy"), Scripted(_picture(3))])

    def connect():
        found = next(tries)
        if isinstance(found, Exception):
            raise found
        return found

    states = []
    source = ResilientSource(connect, lambda *state: states.append(state), 10.0)
    assert source.fps is None
    assert source.read().image[0, 0, 0] == 3
    assert source.fps == 25.0
    assert states == [
        (CameraState.LOST, "absent"),
        (CameraState.LOST, "busy"),
        (CameraState.OK, "30x20 pixels"),
    ]


def test_causes_that_are_told_are_bounded():
    """A driver that says something new at every try does not fill the log."""
    tries = itertools.chain((SourceError(f"cause {n}") for n in range(50)), [None])

    def connect():
        found = next(tries)
        if found is None:
            return Scripted(_picture(1))
        raise found

    states = []
    ResilientSource(connect, lambda *state: states.append(state), 10.0).read()
    assert [detail for _, detail in states] == [*(f"cause {n}" for n in range(MAX_CAUSES)), "30x20 pixels"]


def test_a_frozen_picture_is_told_and_a_new_one_ends_it():
    """The same picture for too long: `frozen`, a new connection, and `ok` when pictures differ again."""
    clock = Clock()
    source, states = _watched(
        Scripted(*[_picture(1)] * 9), Scripted(_picture(1), _picture(2)), frozen_after_s=3.0, clock=clock
    )
    while len(states) < 2:
        source.read()
        clock.now_s += 1.0
    assert states[1] == (CameraState.FROZEN, "the same picture for 3 s")
    source.read()
    assert states[-1][0] is CameraState.OK


def test_a_still_scene_is_not_frozen_for_those_who_say_so():
    """With 0 the check is off."""
    clock = Clock()
    source, states = _watched(Scripted(*[_picture(1)] * 5), frozen_after_s=0.0, clock=clock)
    for _ in range(5):
        source.read()
        clock.now_s += 1e6
    assert [state for state, _ in states] == [CameraState.OK]


def test_a_changed_resolution_is_told():
    """Pictures of another size go on, and an event says which."""
    source, states = _watched(Scripted(_picture(1), _picture(2, (40, 60))))
    assert [source.read().image.shape[0] for _ in range(2)] == [20, 40]
    assert states == [(CameraState.OK, "30x20 pixels"), (CameraState.OK, "60x40 pixels")]


def test_a_corrupt_stream_is_given_up_after_many_damaged_pictures():
    """One damaged picture is skipped by the camera; many in a row are a lost stream."""
    source, states = _watched(Scripted(*[TORN] * MAX_UNREADABLE), Scripted(_picture(5)))
    for _ in range(MAX_UNREADABLE - 1):
        with pytest.raises(UnreadablePictureError):
            source.read()
    assert source.read().image[0, 0, 0] == 5
    assert states[0] == (CameraState.LOST, "torn")


def test_an_interrupt_ends_the_wait_for_a_lost_camera(monkeypatch):
    """However long the pause: `read` returns at once."""
    monkeypatch.setattr(reconnecting, "PAUSE_MIN_S", 1e6)
    source, _ = _watched(Scripted(GONE))
    found = []
    reader = threading.Thread(target=lambda: found.append(source.read()))
    reader.start()
    source.interrupt()
    reader.join(30)
    assert found == [None]
