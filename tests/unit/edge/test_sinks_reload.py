"""Sinks that a reload opens anew, replaces, adds and takes out while items come: none is lost or doubled."""

import threading
import time
from collections.abc import Callable

import pytest

from spillover.edge.results.delivery import DeliveryAck, Event, EventKind
from spillover.edge.runtime.queues import WhenFull
from spillover.edge.sinks.outlet import Outlet
from spillover.edge.sinks.outlets import Outlets
from tests.support.edge_values import result
from tests.support.sinks import MemorySink
from tests.support.stopping import wait_for_thread


def _running(outlet: Outlet) -> threading.Thread:
    """The outlet's writing thread."""
    thread = threading.Thread(target=outlet.run)
    thread.start()
    return thread


class OpenedSink(MemorySink):
    """Counts how often it was opened; as long as `full`, nothing can be flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 1
        self.full = False
        self.has_at_reopening: list[int] = []

    def flush(self) -> None:
        """Fail, or do nothing."""
        if self.full:
            raise OSError(28, "No space left on device")

    def reopen(self) -> None:
        """Note what has come before."""
        self.opened += 1
        self.has_at_reopening.append(len(self.results))


def _put(outlet: Outlet, *names: str) -> list[DeliveryAck]:
    acks = [DeliveryAck(1) for _ in names]
    for name, ack in zip(names, acks, strict=True):
        outlet.put(result(name), ack)
    return acks


def _frames(sink: MemorySink) -> list[str]:
    return [result.frame_id for result in sink.results]


def test_a_file_is_opened_anew_between_two_items() -> None:
    """What was put before is in the old one."""
    sink = OpenedSink()
    outlet = Outlet("0:test", sink, 10, lambda _: None)
    _put(outlet, "a", "b")
    outlet.reopen()
    _put(outlet, "c")
    outlet.close()
    _running(outlet).join(30)
    assert (sink.opened, sink.has_at_reopening, _frames(sink)) == (2, [2], ["a", "b", "c"])


def test_a_file_that_is_to_be_opened_again_and_again_is_opened_once() -> None:
    """By then the newest file is at its path. Items waited behind a thousand openings."""
    sink = OpenedSink()
    outlet = Outlet("0:test", sink, 10, lambda _: None)
    _put(outlet, "a")
    for _ in range(100):
        outlet.reopen()
    _put(outlet, "b")
    outlet.reopen()
    writer = _running(outlet)
    acks = _put(outlet, "c")
    assert acks[0].wait(30)
    outlet.reopen()  # the next one is another
    outlet.close()
    writer.join(30)
    assert (sink.opened, sink.has_at_reopening, _frames(sink)) == (3, [1, 3], ["a", "b", "c"])


def test_a_sink_is_replaced_between_two_items() -> None:
    """The old one is closed before the new one is made; an item is acknowledged by the one that has it."""
    old, new = OpenedSink(), OpenedSink()
    closed_first: list[bool] = []

    def make() -> MemorySink:
        closed_first.append(old.closed)
        return new

    outlet = Outlet("0:test", old, 10, lambda _: None)
    acks = _put(outlet, "a")
    outlet.replace(make, 20)
    acks += _put(outlet, "b")
    outlet.close()
    _running(outlet).join(30)
    assert closed_first == [True]
    assert (_frames(old), _frames(new)) == (["a"], ["b"])
    assert [ack.wait(0) for ack in acks] == [True, True]


class NoticingSink(OpenedSink):
    """Keeps what it learned before anything was queued."""

    def __init__(self) -> None:
        super().__init__()
        self.noticed: list[Event] = []

    def notice(self, event: Event) -> None:
        """Append it."""
        self.noticed.append(event)


def test_a_new_sink_learns_the_newest_state_of_everything() -> None:
    """Of each camera, zone and line, and the last event of each; of what is no state nothing."""

    def at(kind: EventKind, number: int, **fields: str) -> Event:
        return Event(kind, float(number), {"camera_id": "cam"} | fields)

    told = [
        at(EventKind.ZONE_COUNT, 1, zone="door"),
        at(EventKind.ZONE_COUNT, 2, zone="yard"),
        at(EventKind.ENTER, 3, zone="door"),
        at(EventKind.APPEARED, 4),
        at(EventKind.ZONE_COUNT, 5, zone="door"),
        at(EventKind.LEAVE, 6, zone="door"),
        at(EventKind.CROSS, 7, line="gate"),
        at(EventKind.LINE_COUNT, 8, line="gate"),
        at(EventKind.CAMERA_STATE, 9),
    ]
    new = NoticingSink()
    outlet = Outlet("0:test", NoticingSink(), 20, lambda _: None)
    for event in told:
        outlet.put(event, DeliveryAck(1))
    outlet.replace(lambda: new, 20)
    outlet.close()
    _running(outlet).join(30)
    assert sorted(event.at_unix_s for event in new.noticed) == [2, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("carry", [False, True])
def test_what_a_failing_sink_holds_is_not_lost_by_its_replacement(carry: bool) -> None:
    """Either it stays in place until it has stored that, or the new one is given it again."""
    old, new, drops = OpenedSink(), OpenedSink(), []
    old.full = True
    outlet = Outlet("0:test", old, 10, drops.append)
    acks = _put(outlet, "a")
    outlet.replace(lambda: new, 10, carry=carry)
    acks += _put(outlet, "b")
    thread = _running(outlet)
    if not carry:
        assert acks[1].wait(0.0) is None
        _until(lambda: len(old.results) == 2)
        old.full = False
        acks += _put(outlet, "c")
    assert all(ack.wait(30) for ack in acks)
    outlet.close()
    thread.join(30)
    assert _frames(new) == (["a", "b"] if carry else [])
    assert old.closed
    assert drops == []


def _until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it never came")


def test_no_item_falls_between_the_sinks_before_a_change_and_those_after_it() -> None:
    """While others put, sinks come and go: each item reaches one set of them, in order; none is dropped."""
    sinks, drops = [MemorySink() for _ in range(12)], []
    outlets = [Outlet(f"{n}:memory", sink, 5000, drops.append) for n, sink in enumerate(sinks)]
    ended: list[object] = []
    together = Outlets(outlets[:1], ended.append)
    together.start()
    begun, stop = threading.Event(), threading.Event()
    acks: list[DeliveryAck] = []

    def put() -> None:
        while not stop.is_set():
            acks.append(together.put(result(f"f{len(acks)}")))
            begun.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert begun.wait(30)
    for after in outlets[1:]:
        seen = len(acks)
        assert together.change([after])
        _until(lambda seen=seen: len(acks) > seen + 20)
    stop.set()
    thread.join(30)
    assert together.current == outlets[-1:]
    assert together.stop(time.monotonic() + 30)
    names = [name for sink in sinks for name in _frames(sink)]
    assert names == [f"f{index}" for index in range(len(acks))]
    assert all(ack.wait(0) for ack in acks)
    assert drops == []
    assert all(sink.closed for sink in sinks)
    assert not together.change(outlets[:1])


def test_a_sink_that_was_taken_out_does_not_end_the_daemon() -> None:
    """The end of its thread is not reported; that of one in use is."""
    ended: list[object] = []
    first, second = (Outlet(f"{n}:memory", MemorySink(), 10, lambda _: None) for n in range(2))
    together = Outlets([first], ended.append)
    together.start()
    assert together.change([second])
    wait_for_thread("sink 0:memory")
    assert ended == []
    assert together.stop(time.monotonic() + 30)


class AwaySink(MemorySink):
    """A broker that cannot be reached: it has no room, and confirms nothing."""

    def wait_for_room(self, timeout_s: float) -> bool:
        """None."""
        del timeout_s
        return False

    def flush(self) -> None:
        """Say why."""
        raise OSError("away")


class TellingSink(MemorySink):
    """Keeps what it is told at once."""

    def __init__(self) -> None:
        super().__init__()
        self.noticed: list[Event] = []

    def notice(self, event: Event) -> None:
        """Keep it."""
        self.noticed.append(event)


def test_a_broker_that_is_away_is_replaced_at_once_and_the_new_one_told_what_holds() -> None:
    """Its address may have been wrong: what waits goes to the new one, and so does the camera's state."""
    new, drops = TellingSink(), []
    outlet = Outlet("0:test", AwaySink(), 3, drops.append, drops.append, WhenFull.DROP_OLDEST)
    outlet.put(Event(EventKind.CAMERA_STATE, 1.0, {"camera_id": "cam", "state": "lost"}), DeliveryAck(1))
    thread = _running(outlet)
    acks = _put(outlet, "a", "b", "c")
    outlet.replace(lambda: new, 3, carry=True)
    more = _put(outlet, "d", "e", "f", "g")
    assert more[-1].wait(30)
    assert [event.fields["state"] for event in new.noticed] == ["lost"]
    outlet.close()
    thread.join(30)
    kept = _frames(new)
    assert kept == ["a", "b", "c", "d", "e", "f", "g"][-len(kept) :]
    assert len(drops) == 1 + 7 - len(kept)
    assert sum(ack.wait(0.0) is True for ack in (*acks, *more)) == len(kept)
