"""Room for streams: never more than there is, shares kept, who is busy stays, who is idle makes room."""

from dataclasses import dataclass, field
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.cloud.serving.streams.table import (
    HOLDER_SHARE,
    IDLE_S,
    UNPROVEN_SHARE,
    Owner,
    Refusal,
    RefusedError,
    StreamTable,
)

TOTAL = 40
ANN, BOB = Owner("ann", is_proven=True), Owner("bob", is_proven=True)
STRANGERS = tuple(Owner(f"ipv4:10.0.0.{n}:1", is_proven=False) for n in range(3))
OWNERS = (ANN, BOB, Owner("cid", is_proven=True), Owner("dan", is_proven=True), *STRANGERS)


@dataclass
class Known:
    """What the test knows of a stream."""

    owner: Owner
    size: int
    last_s: float
    users: int = 1


@dataclass
class Model:
    """A table beside what the test knows of it."""

    table: StreamTable[int, list[int]] = field(default_factory=lambda: StreamTable(TOTAL))
    known: dict[int, Known] = field(default_factory=dict)
    now_s: float = 0.0

    def begin(self, key: int, owner: Owner, size: int) -> None:
        """Begin, and hold what happened against the rules."""
        before = dict(self.known)
        try:
            stream, dropped = self.table.begin(key, owner, size, self.now_s, lambda: [key])
        except RefusedError:
            assert not self.could_fit(key, owner, size)
            return
        assert stream == [key]
        gone = {one for one in before if one != key and not self.holds(one)}
        assert len(gone) == dropped
        assert all(self.is_idle(before[one]) for one in gone)
        for one in gone:
            del self.known[one]
        if known := self.known.get(key):
            known.size, known.users, known.last_s = max(known.size, size), known.users + 1, self.now_s
        else:
            self.known[key] = Known(owner, size, self.now_s)

    def holds(self, key: int) -> bool:
        """Whether a stream is there."""
        return key in self.table._entries

    def is_idle(self, known: Known) -> bool:
        """Whether it may make room."""
        return not known.users and self.now_s - known.last_s >= IDLE_S

    def could_fit(self, key: int, owner: Owner, size: int) -> bool:
        """Whether some choice of idle streams would make room."""
        idle = [one for one, known in self.known.items() if one != key and self.is_idle(known)]
        wanted = self.known.get(key) or Known(owner, 0, 0.0)
        after = {**self.known, key: Known(wanted.owner, max(wanted.size, size), 0.0)}
        return any(
            self.is_allowed([known for one, known in after.items() if one not in gone])
            for count in range(len(idle) + 1)
            for gone in combinations(idle, count)
        )

    def is_allowed(self, streams: list[Known]) -> bool:
        """Whether these streams keep to all bounds."""
        used = {owner: sum(one.size for one in streams if one.owner == owner) for owner in OWNERS}
        unproven = sum(size for owner, size in used.items() if not owner.is_proven)
        return (
            sum(used.values()) <= TOTAL
            and max(used.values()) <= TOTAL // HOLDER_SHARE
            and unproven <= TOTAL // UNPROVEN_SHARE
        )

    def check(self) -> None:
        """What holds at any time."""
        streams = list(self.known.values())
        assert self.is_allowed(streams)
        assert self.table.used == sum(one.size for one in streams)
        assert len(self.table) == len(streams)
        assert self.table.busy == sum(one.users > 0 for one in streams)


KEYS = st.integers(0, 7)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), KEYS, st.sampled_from(OWNERS), st.integers(1, 12)),
        st.tuples(st.just("enter"), KEYS),
        st.tuples(st.just("leave"), KEYS, st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([0.5, IDLE_S, 20.0])),
    ),
    max_size=40,
)


@given(STEPS)
def test_bounds_hold_and_nobody_is_refused_or_dropped_without_need(steps):
    """After any steps: all bounds hold, only idle streams were dropped, and a refusal had no way out."""
    model = Model()
    for step, *values in steps:
        match step:
            case "begin":
                model.begin(*values)
            case "enter":
                (key,) = values
                assert (model.table.enter(key, model.now_s) is not None) == (key in model.known)
                if key in model.known:
                    model.known[key].users += 1
                    model.known[key].last_s = model.now_s
            case "leave":
                key, useless = values
                if key in model.known and model.known[key].users:
                    model.table.leave(key, model.now_s, useless=useless)
                    model.known[key].users -= 1
                    model.known[key].last_s = model.now_s - (IDLE_S if useless else 0)
            case "wait":
                model.now_s += values[0]
        model.check()


def filled():
    """A table that two callers have filled up to their share, with streams 0 to 3 used in this order."""
    table = StreamTable(TOTAL)
    for key, owner in enumerate((ANN, BOB, ANN, BOB)):
        table.begin(key, owner, 5, float(key), list)
        table.leave(key, float(key))
    return table


def test_the_stream_unused_longest_makes_room():
    """Of the idle ones; a caller at its share gives one of its own."""
    table = filled()
    table.begin(9, BOB, 5, 100.0, list)
    assert [table.enter(key, 100.0) is not None for key in range(4)] == [True, False, True, True]


@pytest.mark.parametrize("busy", [True, False])
def test_streams_in_use_or_just_used_stay(busy):
    """A new one is refused instead, and told that it is the caller's share."""
    table = filled()
    for key in (1, 3):
        table.enter(key, 100.0)
        if not busy:
            table.leave(key, 100.0)
    with pytest.raises(RefusedError) as error:
        table.begin(9, BOB, 5, 100.0 + (1000.0 if busy else IDLE_S / 2), list)
    assert error.value.reason is Refusal.SHARE


def test_a_full_table_says_so():
    """With all room in use by others, a caller with nothing is told that it is full."""
    table = StreamTable(TOTAL)
    for key, owner in enumerate(OWNERS[:4]):
        table.begin(key, owner, TOTAL // HOLDER_SHARE, 0.0, list)
    with pytest.raises(RefusedError) as error:
        table.begin(9, STRANGERS[0], 5, 1000.0, list)
    assert error.value.reason is Refusal.FULL


def test_strangers_leave_half_to_those_with_an_identity():
    """However many connections they open."""
    table = StreamTable(TOTAL)
    strangers = [Owner(f"ipv4:10.0.0.1:{port}", is_proven=False) for port in range(20)]
    begun = 0
    for key, owner in enumerate(strangers):
        try:
            table.begin(key, owner, 5, 0.0, list)
        except RefusedError:
            continue
        begun += 1
    assert begun == TOTAL // UNPROVEN_SHARE // 5
    table.begin(99, ANN, TOTAL // HOLDER_SHARE, 0.0, list)


def test_a_useless_stream_makes_room_at_once():
    """One of which nothing is left is dropped before any other."""
    table = filled()
    table.enter(3, 100.0)
    table.leave(3, 100.0, useless=True)
    table.begin(9, BOB, 5, 100.0, list)
    assert [table.enter(key, 100.0) is not None for key in range(4)] == [True, True, True, False]
