"""Records in a file: what was synced comes back whole; what is worth least goes first; damage stays local."""

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from spillover.edge.spool.arena import Arena, intact_records
from spillover.edge.spool.record import BLOCK_BYTES, HEADER_BYTES, blocks_for

_CAP = 16 * BLOCK_BYTES
_bodies = st.integers(0, 4 * BLOCK_BYTES).map(lambda size: random.Random(size).randbytes(size))
_values = st.integers(0, 9).map(float)


def _contents(arena):
    found = {}
    while (header := arena.best()) is not None:
        body = arena.read(header.record_id)
        if body is not None:
            found[header.record_id] = (header.value, body)
            arena.pin(header.record_id)
    return found


class ArenaMachine(RuleBasedStateMachine):
    """The arena beside a dict: same records after any puts, removals, pins and reopenings."""

    @initialize(folder=st.uuids())
    def open_first(self, folder):
        """An empty arena."""
        self.path = self.root / f"{folder}.dat"
        self.path.unlink(missing_ok=True)
        self.arena = Arena(self.path, _CAP)
        self.blocks = _CAP // BLOCK_BYTES
        self.model: dict[int, tuple[float, bytes]] = {}
        self.pinned: set[int] = set()

    @rule(value=_values, body=_bodies)
    def put(self, value, body):
        """What goes is worth no more than what comes, and than what stays."""
        record_id = self.arena.put(value, 0.0, b"k", body)
        held = {key for key in self.model if self.arena.holds(key)}
        gone = [self.model[key][0] for key in self.model if key not in held]
        stayed = [self.model[key][0] for key in held - self.pinned]
        assert all(least <= value for least in gone)
        assert not gone or max(gone) <= min(stayed, default=max(gone))
        assert not self.pinned - held
        self.model = {key: self.model[key] for key in held}
        if record_id is not None:
            self.model[record_id] = (value, body)
        else:
            assert not gone

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data):
        """A record is forgotten."""
        record_id = data.draw(st.sampled_from(sorted(self.model)))
        self.arena.remove(record_id)
        self.pinned.discard(record_id)
        del self.model[record_id]

    @precondition(lambda self: self.model.keys() - self.pinned)
    @rule()
    def pin_best(self):
        """The best of what may be given is given."""
        header = self.arena.best()
        assert header.value == max(self.model[key][0] for key in self.model.keys() - self.pinned)
        self.arena.pin(header.record_id)
        self.pinned.add(header.record_id)

    @precondition(lambda self: self.pinned)
    @rule()
    def unpin(self):
        """It may be given again."""
        self.arena.unpin(self.pinned.pop())

    @rule(blocks=st.integers(8, 24))
    def reopen(self, blocks):
        """The file is closed and opened, perhaps larger."""
        self.arena.close()
        self.blocks = max(self.blocks, blocks)
        self.arena = Arena(self.path, self.blocks * BLOCK_BYTES)
        self.pinned.clear()

    @invariant()
    def same_records(self):
        """The arena holds what the dict holds."""
        if not hasattr(self, "arena"):
            return
        for record_id, (_, body) in self.model.items():
            assert self.arena.read(record_id) == body
        assert len(self.arena) == len(self.model)
        used = sum(blocks_for(len(body)) for _, body in self.model.values())
        assert self.arena.used_bytes == used * BLOCK_BYTES
        assert self.arena.corrupt == 0

    def teardown(self):
        """Close the file."""
        if hasattr(self, "arena"):
            self.arena.close()


def test_the_arena_agrees_with_a_dict(tmp_path):
    """Puts, removals, pins and reopenings in any order; hypothesis looks for the order that breaks it."""
    ArenaMachine.root = tmp_path
    machine = ArenaMachine.TestCase
    machine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
    machine("runTest").runTest()


def test_the_file_never_exceeds_its_cap_by_a_byte(tmp_path):
    """The size on disk is the cap from the first moment, and stays so when far more is offered."""
    arena = Arena(tmp_path / "s", _CAP)
    for number in range(100):
        arena.put(float(number), 0.0, b"k", bytes(3000 + 97 * number))
        assert (tmp_path / "s").stat().st_size == _CAP
    arena.close()


def test_the_least_valuable_goes_first(tmp_path):
    """A full arena keeps the best, whatever the order of arrival."""
    arena = Arena(tmp_path / "s", 4 * BLOCK_BYTES)
    for value in (5.0, 1.0, 7.0, 3.0, 9.0, 2.0, 8.0):
        arena.put(value, 0.0, b"k", b"x" * 100)
    assert sorted(value for value, _ in _contents(arena).values()) == [5.0, 7.0, 8.0, 9.0]
    assert arena.evicted == 2
    arena.close()


def test_a_record_that_cannot_fit_displaces_nothing(tmp_path):
    """Larger than the arena, or worth less than all: refused, and everything else stays."""
    arena = Arena(tmp_path / "s", 2 * BLOCK_BYTES)
    arena.put(1.0, 0.0, b"k", b"a")
    arena.put(5.0, 0.0, b"k", b"b")
    assert arena.put(9.0, 0.0, b"k", bytes(3 * BLOCK_BYTES)) is None
    assert arena.put(2.0, 0.0, b"k", bytes(BLOCK_BYTES)) is None
    assert arena.put(0.5, 0.0, b"k", b"c") is None
    assert len(arena) == 2
    arena.close()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(st.tuples(st.integers(0, _CAP - 1), st.integers(1, 400)), min_size=1, max_size=6))
def test_damage_costs_only_the_records_it_touches(tmp_path, damage):
    """Bytes overwritten anywhere: every record that they miss is recovered whole, and no other."""
    path = tmp_path / "s"
    path.unlink(missing_ok=True)
    arena = Arena(path, _CAP)
    rng = random.Random(7)
    bodies = {
        arena.put(float(n), 0.0, b"k", body): body
        for n in range(6)
        for body in [rng.randbytes(900 + n * 1500)]
    }
    places = {key: arena._contents.by_id[key].block * BLOCK_BYTES for key in bodies}
    arena.close()
    before = path.read_bytes()
    after = bytearray(before)
    for offset, length in damage:
        stretch = slice(offset, min(_CAP, offset + length))
        after[stretch] = bytes(byte ^ 0x5A for byte in after[stretch])
    path.write_bytes(after)
    whole = {
        key: body
        for key, body in bodies.items()
        for record in [slice(places[key], places[key] + HEADER_BYTES + len(body))]
        if before[record] == after[record]
    }
    arena = Arena(path, _CAP)
    found = {key: body for key, (_, body) in _contents(arena).items()}
    arena.close()
    assert found == whole


@pytest.mark.parametrize("cut", [1, HEADER_BYTES, BLOCK_BYTES + 5, 3 * BLOCK_BYTES])
def test_a_torn_file_gives_what_is_whole(tmp_path, cut):
    """A file cut short anywhere opens, and gives the records before the cut."""
    arena = Arena(tmp_path / "s", _CAP)
    first = arena.put(1.0, 0.0, b"k", b"first")
    second = arena.put(2.0, 0.0, b"k", bytes(range(256)) * 20)
    arena.close()
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:cut])
    arena = Arena(tmp_path / "s", _CAP)
    whole = [cut >= HEADER_BYTES + len(b"first"), cut >= BLOCK_BYTES + HEADER_BYTES + 5120]
    assert set(_contents(arena)) == set(itertools.compress([first, second], whole))
    arena.close()


def test_a_smaller_cap_keeps_the_best(tmp_path):
    """When the operator shrinks the spool, what no longer fits goes by value, not by where it lay."""
    arena = Arena(tmp_path / "s", 6 * BLOCK_BYTES)
    for value in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
        arena.put(value, value, b"k", b"x" * 50)
    arena.close()
    arena = Arena(tmp_path / "s", 3 * BLOCK_BYTES)
    assert arena.oldest.clock_s == 4.0
    assert sorted(value for value, _ in _contents(arena).values()) == [4.0, 5.0, 6.0]
    assert arena.evicted == 3
    assert (tmp_path / "s").stat().st_size == 3 * BLOCK_BYTES
    arena.close()


def test_an_old_header_inside_a_newer_record_is_not_believed(tmp_path):
    """A record that was removed stays removed, though parts of it are still on the disk."""
    arena = Arena(tmp_path / "s", _CAP)
    old = [arena.put(1.0, 0.0, b"k", b"old" * 500) for _ in range(8)]
    for record_id in old:
        arena.remove(record_id)
    new = arena.put(2.0, 0.0, b"k", b"new" * 3000)
    arena.close()
    arena = Arena(tmp_path / "s", _CAP)
    assert set(_contents(arena)) == {new}
    assert arena.corrupt == 0
    arena.close()


def test_a_look_from_outside_sees_what_can_be_read_back_and_changes_nothing(tmp_path):
    """Records that are whole, by their names; a damaged one is not among them, and not a byte is written."""
    path = tmp_path / "s"
    arena = Arena(path, _CAP)
    for name in (b"whole", b"hurt", b"gone"):
        arena.put(1.0, 0.0, name, b"x" * 100)
    places = {header.key: start for header, start in arena.places()}
    arena.remove(3)
    arena.close()
    with path.open("r+b") as file:
        file.seek(places[b"hurt"] + HEADER_BYTES)
        file.write(b"?")
    before = path.read_bytes()
    assert [(header.key, start) for header, start in intact_records(path)] == [(b"whole", places[b"whole"])]
    assert path.read_bytes() == before
