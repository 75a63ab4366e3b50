"""Whatever happens to the bytes of a spool's file: it opens, is used, and finds every whole record."""

import errno
import os
import random
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from spillover.edge.spool.record import BLOCK_BYTES, HEADER_BYTES, decode_header, encode
from spillover.edge.spool.spool import Spool
from spillover.edge.spool.values import Fate, Offer, SpoolLimits

_BLOCKS = 32
_CAP = _BLOCKS * BLOCK_BYTES
_LIMITS = SpoolLimits(max_bytes=_CAP, max_age_s=1e15)
_VALUES = (5.0, 1.0, 1.0, 9.0, 3.0, 7.0, 2.0, 8.0)


def _spool(path, fates=None, limits=_LIMITS):
    """An open spool; `fates` gets what it reports."""
    note = fates if fates is not None else []
    spool = Spool(path, limits, lambda: 1000.0, lambda fate, key: note.append((fate, key)), lambda _: None)
    spool.step([])
    return spool


def _close(spool):
    spool.close()
    spool.run()


def _take_all(spool):
    taken = []
    while (one := spool.take()) is not None:
        taken.append(one)
    return taken


def _adds_up(state):
    gone = state.answered + state.failed + state.evicted + state.expired + state.corrupt + state.duplicate
    return state.accepted + state.recovered == gone + state.pending


def _fresh(path):
    """A spool's file with records of one to five blocks and gaps between them; its bytes."""
    spool, rng = _spool(path), random.Random(3)
    for number, value in enumerate(_VALUES):
        body = rng.randbytes(300 + (number % 5) * BLOCK_BYTES)
        spool.step([Offer(value, f"frame-{number}", body)])
    for one in sorted(_take_all(spool), key=lambda one: one.record_id)[2:4]:
        spool.done(one.record_id, answered=True)
    _close(spool)
    return path.read_bytes()


@dataclass(frozen=True)
class Copy:
    """Blocks copied over others."""

    source: int
    target: int
    count: int

    def __call__(self, data: bytearray) -> None:
        """Do it."""
        blocks = data[self.source * BLOCK_BYTES : (self.source + self.count) * BLOCK_BYTES]
        data[self.target * BLOCK_BYTES : self.target * BLOCK_BYTES + len(blocks)] = blocks


@dataclass(frozen=True)
class Swap:
    """Two stretches of blocks in each other's place."""

    one: int
    other: int
    count: int

    def __call__(self, data: bytearray) -> None:
        """Do it."""
        size = self.count * BLOCK_BYTES
        first, second = (slice(at * BLOCK_BYTES, at * BLOCK_BYTES + size) for at in (self.one, self.other))
        if len(data[first]) == len(data[second]) == size and abs(self.one - self.other) >= self.count:
            data[first], data[second] = data[second], data[first]


@dataclass(frozen=True)
class Overwrite:
    """Any bytes anywhere."""

    offset: int
    bytes: bytes

    def __call__(self, data: bytearray) -> None:
        """Do it."""
        data[self.offset : self.offset + len(self.bytes)] = self.bytes


@dataclass(frozen=True)
class Truncate:
    """The file cut short."""

    size: int

    def __call__(self, data: bytearray) -> None:
        """Do it."""
        del data[self.size :]


@dataclass(frozen=True)
class Plant:
    """A whole record that no spool here has written, with any numbers."""

    block: int
    record_id: int
    value: float
    clock_s: float
    body_bytes: int

    @property
    def record(self) -> bytes:
        """Its bytes."""
        body = random.Random(self.body_bytes).randbytes(self.body_bytes)
        return encode(self.record_id, self.value, self.clock_s, b"planted", body)

    def __call__(self, data: bytearray) -> None:
        """Do it."""
        Overwrite(self.block * BLOCK_BYTES, self.record)(data)


_block = st.integers(0, _BLOCKS - 1)
_count = st.integers(1, 8)
_faults = st.one_of(
    st.builds(Copy, _block, _block, _count),
    st.builds(Swap, _block, _block, _count),
    st.builds(Overwrite, st.integers(0, _CAP - 1), st.binary(min_size=1, max_size=200)),
    st.builds(Truncate, st.integers(0, _CAP)),
    st.builds(
        Plant,
        _block,
        st.one_of(st.integers(0, 12), st.integers(0, 2**64 - 1)),
        st.floats(),
        st.floats(),
        st.integers(0, 5 * BLOCK_BYTES),
    ),
)


def _whole(data, records):
    """Bodies of the records of which some place in `data` holds every byte; each once."""
    places = range(0, len(data), BLOCK_BYTES)
    found = {
        record for record in records for at in places if data[at : at + len(record)] == record and record
    }
    return sorted(record[HEADER_BYTES:] for record in found)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(_faults, max_size=8))
@example([Copy(0, 3, 1)])
@example([Copy(4, 0, 8), Copy(4, 20, 8), Swap(0, 8, 4)])
@example([Plant(31, 2**64 - 1, 1.0, 1.0, 10)])
@example([Plant(0, 1, 1.0, 1e300, 10)])
def test_every_whole_record_is_found_and_the_file_can_be_used_again_and_again(tmp_path, faults):
    """Open, use, close, three times: no error, the counters add up, and each whole record is there once."""
    path = tmp_path / "s"
    for leftover in tmp_path.iterdir():
        leftover.unlink()
    before = _fresh(path)
    starts = [at for at in range(0, len(before), BLOCK_BYTES) if decode_header(before[at:])]
    records = [before[at : at + HEADER_BYTES + decode_header(before[at:]).body_bytes] for at in starts] + [
        fault.record for fault in faults if isinstance(fault, Plant) and decode_header(fault.record)
    ]
    data = bytearray(before)
    for fault in faults:
        fault(data)
        del data[_CAP:]
    path.write_bytes(data)
    expected = _whole(bytes(data), records)
    for round_ in range(3):
        spool = _spool(path)
        assert spool.state().error == ""
        taken = _take_all(spool)
        assert sorted(one.body for one in taken) == expected
        assert _adds_up(spool.state())
        if round_:
            assert (spool.state().corrupt, spool.state().duplicate) == (0, 0)
        for one in taken[1:]:
            spool.give_back(one.record_id)
        if taken:
            spool.done(taken[0].record_id, answered=True)
        spool.step([Offer(4.0, "more", b"more %d" % round_)])
        expected = sorted(one.body for one in _take_all(spool))
        assert _adds_up(spool.state())
        _close(spool)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=3 * BLOCK_BYTES), repeat=st.integers(1, 12))
def test_any_bytes_are_opened_and_used(tmp_path, data, repeat):
    """A file of anything: it is a spool afterwards."""
    path = tmp_path / "s"
    path.write_bytes(data * repeat)
    for _ in range(2):
        spool = _spool(path)
        spool.step([Offer(1.0, "key", b"body")])
        assert spool.take().body == b"body"
        assert spool.state().error == ""
        _close(spool)


def test_a_duplicated_record_is_dropped_with_a_counter_and_a_line(tmp_path):
    """A copy of a record over free blocks: counted as a copy, and its frame is not reported as lost."""
    path = tmp_path / "s"
    data = bytearray(_fresh(path))
    Copy(0, 24, 1)(data)
    path.write_bytes(data)
    fates = []
    with capture_logs() as log:
        spool = _spool(path, fates)
    assert (spool.state().duplicate, spool.state().corrupt, spool.state().pending) == (1, 0, 6)
    assert not fates
    assert [(line["log_level"], line["duplicate"]) for line in log] == [("warning", 1)]
    _close(spool)


def test_a_record_without_its_body_is_reported_by_name(tmp_path):
    """So `lab check` knows how its frame ended; a copy of its header does not report it twice."""
    path = tmp_path / "s"
    data = bytearray(_fresh(path))
    Overwrite(HEADER_BYTES + 5, b"?")(data)
    Copy(0, 24, 1)(data)
    path.write_bytes(data)
    fates = []
    spool = _spool(path, fates)
    assert fates == [(Fate.CORRUPT, "frame-0")]
    assert (spool.state().corrupt, spool.state().pending) == (1, 5)
    _close(spool)


def test_records_of_two_daemons_in_one_file_are_all_found(tmp_path):
    """Both have counted from 1, so their numbers are the same; what they hold is not."""
    path = tmp_path / "s"
    first = encode(1, 1.0, 1.0, b"a", b"first")
    second = encode(1, 1.0, 2.0, b"b", b"second")
    path.write_bytes(first.ljust(BLOCK_BYTES, b"\0") + second.ljust(BLOCK_BYTES, b"\0"))
    spool = _spool(path)
    assert sorted(one.body for one in _take_all(spool)) == [b"first", b"second"]
    _close(spool)


def test_what_is_no_spool_is_set_aside_and_kept(tmp_path):
    """A file that somebody else has written is renamed, and the log names it; there is one such at most."""
    path = tmp_path / "s"
    for content in (b"a film", b"another film"):
        path.write_bytes(content * 1000)
        with capture_logs() as log:
            spool = _spool(path)
        assert spool.state().error == ""
        assert (tmp_path / "s.set-aside").read_bytes() == content * 1000
        assert [line["now"] for line in log if line["event"] == "spool set aside"] == [f"{path}.set-aside"]
        _close(spool)
        assert sorted(one.name for one in tmp_path.iterdir()) == [".s.lock", "s", "s.set-aside"]


def test_a_spool_is_known_as_one_from_the_start(tmp_path):
    """A power cut leaves the end of the very first record without its beginning: nothing is set aside."""
    path = tmp_path / "s"
    _close(_spool(path))
    with path.open("r+b") as file:
        file.seek(BLOCK_BYTES)
        file.write(b"the rest of a record")
    _close(_spool(path))
    assert sorted(one.name for one in tmp_path.iterdir()) == [".s.lock", "s"]


def test_a_file_of_nothing_but_beginnings_is_set_aside(tmp_path):
    """Each block begins a record half as large as the file: to look at all of them would take hours."""
    path, blocks = tmp_path / "s", 128
    header = encode(1, 1.0, 1.0, b"a", bytes(blocks // 2 * BLOCK_BYTES))[:HEADER_BYTES]
    path.write_bytes(header.ljust(BLOCK_BYTES, b"?") * blocks)
    spool = _spool(path)
    assert spool.state().error == ""
    assert (tmp_path / "s.set-aside").exists()
    _close(spool)


def test_what_is_set_aside_gives_way_to_the_spool(tmp_path, monkeypatch):
    """On a disk without room for both, the spool gets it."""
    (tmp_path / "s.set-aside").write_bytes(b"old" * 1000)
    allocate = os.posix_fallocate

    def full(file, offset, size):
        if (tmp_path / "s.set-aside").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(file, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    spool = _spool(tmp_path / "s")
    assert spool.state().error == ""
    _close(spool)


def test_a_block_that_cannot_be_read_costs_its_record_alone(tmp_path, monkeypatch):
    """A bad sector: the others are found, and nothing is written to that place."""
    path = tmp_path / "s"
    _fresh(path)
    read = os.pread

    def bad_sector(file, size, offset):
        if offset < BLOCK_BYTES:
            raise OSError(errno.EIO, "Input/output error")
        return read(file, size, offset)

    monkeypatch.setattr(os, "pread", bad_sector)
    spool = _spool(path)
    assert spool.state().error == ""
    spool.step([Offer(20.0, "key", b"body")])
    assert spool.take().body == b"body"
    assert len(_take_all(spool)) == 5
    _close(spool)


def test_a_device_is_never_written_to(tmp_path):
    """Only a regular file can be a spool: on a disk's device it would overwrite the disk."""
    os.mkfifo(tmp_path / "s")
    assert "not a regular file" in _spool(tmp_path / "s").state().error


@pytest.mark.parametrize("folder", ["absent", "absent/deeper"])
def test_no_folder_is_made(tmp_path, folder):
    """Below a mount point whose disk is away it would be made on another disk; the state names it."""
    state = _spool(tmp_path / folder / "s").state()
    assert f"{tmp_path / folder}" in state.error
    assert not list(tmp_path.iterdir())


def test_a_spool_in_use_is_named_and_left_alone(tmp_path):
    """The second one on a path gives up at once; when the first has closed, another may."""
    first = _spool(tmp_path / "s")
    second = _spool(tmp_path / "s")
    assert str(tmp_path / "s") in str(second.in_use)
    assert f"process {os.getpid()}" in str(second.in_use)
    _close(first)
    third = _spool(tmp_path / "s")
    assert (third.in_use, third.state().error) == (None, "")
    _close(third)
