"""The spool: accepted means synced, counters add up, a disk that refuses is a state and no crash."""

import os
import subprocess
import sys
import threading

import pytest

from spillover.common.errors import InvalidInputError, ModelError
from spillover.edge.spool.forwarder import Intake
from spillover.edge.spool.record import BLOCK_BYTES, MAX_KEY_BYTES
from spillover.edge.spool.spool import Spool
from spillover.edge.spool.values import Fate, Offer, Refusal, SpoolLimits
from tests.support.edge_values import encoded, frame, result

_LIMITS = SpoolLimits(max_bytes=8 * BLOCK_BYTES, max_age_s=100.0)
_LIMITS_OF_WRITER = SpoolLimits(max_bytes=1 << 20, max_age_s=1e6)


def _ignored(*_):
    """Takes a fate or a refusal."""


class Clock:
    """Seconds that a test sets."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        """The seconds set."""
        return self.now_s


def _adds_up(state):
    gone = state.answered + state.failed + state.evicted + state.expired + state.corrupt + state.duplicate
    return state.accepted + state.recovered == gone + state.pending


def test_the_most_valuable_is_taken_first_and_given_once(tmp_path):
    """Records come out by value; one that is under way is not given again until it is given back."""
    spool = Spool(tmp_path / "s", _LIMITS, Clock(), _ignored, _ignored)
    spool.step([Offer(1.0, "key", b"low"), Offer(3.0, "key", b"high")])
    high = spool.take()
    assert (high.body, spool.take().body, spool.take()) == (b"high", b"low", None)
    spool.give_back(high.record_id)
    assert spool.take().body == b"high"


def test_counters_add_up_through_a_restart(tmp_path):
    """What was accepted or recovered is pending, answered, failed, evicted, expired or corrupt: once."""
    clock = Clock()
    spool = Spool(tmp_path / "s", _LIMITS, clock, _ignored, _ignored)
    for number in range(12):
        spool.step([Offer(float(number), "key", b"x" * 5000)])
        assert _adds_up(spool.state())
    spool.done(spool.take().record_id, answered=True)
    spool.done(spool.take().record_id, answered=False)
    assert _adds_up(spool.state())
    spool.close()
    spool.run()
    again = Spool(tmp_path / "s", _LIMITS, clock, _ignored, _ignored)
    again.step([])
    assert again.state().recovered == spool.state().accepted - 2 - 8
    assert _adds_up(again.state())


def test_age_is_time_that_the_daemon_ran(tmp_path):
    """Records expire after their age, counted across restarts, whatever any clock says in between."""
    clock = Clock()
    spool = Spool(tmp_path / "s", _LIMITS, clock, _ignored, _ignored)
    spool.step([Offer(1.0, "key", b"old")])
    clock.now_s += 60
    spool.step([Offer(1.0, "key", b"young")])
    spool.close()
    spool.run()
    clock.now_s = 5.0  # another boot: the monotonic clock starts again
    spool = Spool(tmp_path / "s", _LIMITS, clock, _ignored, _ignored)
    spool.step([])
    assert spool.state().pending == 2
    clock.now_s += 50
    spool.step([])
    assert (spool.state().expired, spool.take().body) == (1, b"young")


def test_a_record_under_way_does_not_expire(tmp_path):
    """What was taken stays until its delivery has ended."""
    clock = Clock()
    spool = Spool(tmp_path / "s", _LIMITS, clock, _ignored, _ignored)
    spool.step([Offer(1.0, "key", b"taken")])
    taken = spool.take()
    clock.now_s += 1000
    spool.step([])
    spool.done(taken.record_id, answered=True)
    assert (spool.state().answered, spool.state().expired) == (1, 0)


def test_offers_beyond_the_queue_are_refused_and_counted(tmp_path):
    """Memory is bounded: while the disk does not keep up, offers are refused at once."""
    refusals, limits = [], SpoolLimits(8 * BLOCK_BYTES, 100.0, queue_size=2)
    spool = Spool(tmp_path / "s", limits, Clock(), _ignored, refusals.append)
    for _ in range(4):
        spool.offer(Offer(1.0, "key", b"x"))
    assert refusals == [Refusal.DISK_SLOW] * 2


def test_an_offer_after_the_end_is_refused_and_counted(tmp_path):
    """Nothing is taken that no writer would write."""
    refusals = []
    spool = Spool(tmp_path / "s", _LIMITS, Clock(), _ignored, refusals.append)
    spool.close()
    spool.offer(Offer(1.0, "key", b"x"))
    assert refusals == [Refusal.CLOSED]


def test_what_is_worth_less_than_all_that_fills_the_spool_is_refused_and_counted(tmp_path):
    """Two records fill it; of three more the one that is worth most makes room for itself."""
    refusals, fates = [], []
    limits = SpoolLimits(2 * BLOCK_BYTES, 100.0)
    spool = Spool(
        tmp_path / "s", limits, Clock(), lambda fate, key: fates.append((fate, key)), refusals.append
    )
    spool.step([Offer(value, f"{value:g}", b"x") for value in (5.0, 6.0, 1.0, 7.0, 2.0)])
    assert refusals == [Refusal.LEAST_VALUABLE] * 2
    assert (Fate.EVICTED, "5") in fates
    assert spool.state().pending == 2


def test_a_thread_commits_what_was_offered_before_it_ends(tmp_path):
    """After `close`, everything that `offer` took is on the disk."""
    spool = Spool(tmp_path / "s", _LIMITS, Clock(), _ignored, _ignored)
    thread = threading.Thread(target=spool.run)
    thread.start()
    spool.offer(Offer(2.0, "key", b"promised"))
    spool.close()
    thread.join(10)
    assert not thread.is_alive()
    again = Spool(tmp_path / "s", _LIMITS, Clock(), _ignored, _ignored)
    again.step([])
    assert again.take().body == b"promised"


def test_a_disk_that_refuses_is_a_state_and_is_tried_again(tmp_path):
    """No file can be made: offers are refused with a reason; when it can, the spool works."""
    clock, refusals = Clock(), []
    (tmp_path / "folder").write_text("in the way")
    spool = Spool(tmp_path / "folder" / "s", _LIMITS, clock, _ignored, refusals.append)
    spool.step([Offer(1.0, "key", b"x")])
    assert "folder" in spool.state().error
    (tmp_path / "folder").unlink()
    (tmp_path / "folder").mkdir()
    clock.now_s += 0.5
    spool.step([Offer(1.0, "key", b"too soon")])
    clock.now_s += 1.0
    spool.step([Offer(1.0, "key", b"y")])
    state = spool.state()
    assert (state.error, state.accepted, refusals) == ("", 1, [Refusal.DISK_FAILED] * 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_stored_as_nothing_special(tmp_path, value):
    """Whatever a model made of it: the record is kept, found again, and is among the first to go."""
    for _ in range(2):
        spool = Spool(tmp_path / "s", _LIMITS, Clock(), _ignored, _ignored)
        spool.step([Offer(value, "key", b"odd"), Offer(1.0, "key", b"worth more")])
        assert spool.take().body == b"worth more"
        assert not spool.state().error
        spool.close()
        spool.run()


def test_a_commit_that_fails_refuses_each_record_once(tmp_path, monkeypatch):
    """The disk fails in the sync: none of the group stays, and each is counted once."""
    refusals = []
    spool = Spool(tmp_path / "s", _LIMITS, Clock(), _ignored, refusals.append)
    spool.step([])

    def fails(file):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    spool.step([Offer(1.0, "key", b"x")] * 3)
    state = spool.state()
    assert (state.accepted, state.pending, refusals) == (0, 0, [Refusal.DISK_FAILED] * 3)
    assert "Input/output error" in state.error


def _failing_sync(monkeypatch):
    def fails(file):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)


def test_a_disk_that_was_away_is_opened_anew(tmp_path, monkeypatch):
    """Records are found again, also the one that was under way, and the counters add up throughout."""
    clock = Clock()
    spool = Spool(tmp_path / "s", _LIMITS, clock, _ignored, _ignored)
    spool.step([Offer(number, "key", b"%d" % number) for number in (1.0, 2.0, 3.0)])
    taken = spool.take()
    _failing_sync(monkeypatch)
    spool.step([Offer(9.0, "key", b"too late")])
    assert _adds_up(spool.state())
    assert (spool.state().pending, spool.take()) == (3, None)
    monkeypatch.undo()
    clock.now_s += 2.0
    spool.step([])
    spool.done(taken.record_id, answered=True)
    state = spool.state()
    assert (state.error, state.pending, state.answered, state.recovered) == ("", 3, 0, 0)
    assert _adds_up(state)
    assert [spool.take().body for _ in range(3)] == [b"3", b"2", b"1"]


def test_another_disk_in_place_of_the_first_is_used(tmp_path, monkeypatch):
    """What was on the first is counted as lost, and an answer to it removes nothing from the second."""
    clock = Clock()
    (tmp_path / "disk").mkdir()
    spool = Spool(tmp_path / "disk" / "s", _LIMITS, clock, _ignored, _ignored)
    spool.step([Offer(number, "key", b"%d" % number) for number in (1.0, 2.0, 3.0)])
    taken = [spool.take() for _ in range(3)]
    _failing_sync(monkeypatch)
    spool.step([Offer(9.0, "key", b"too late")])
    monkeypatch.undo()
    (tmp_path / "disk").rename(tmp_path / "away")
    clock.now_s += 2.0
    spool.step([Offer(9.0, "key", b"nowhere")])
    assert "disk" in spool.state().error
    (tmp_path / "disk").mkdir()
    clock.now_s += 3.0
    spool.step([Offer(9.0, "key", b"new"), Offer(8.0, "key", b"second"), Offer(7.0, "key", b"third")])
    for one in taken:
        spool.done(one.record_id, answered=True)
        spool.give_back(one.record_id)
    state = spool.state()
    assert (state.error, state.pending, state.corrupt, state.answered) == ("", 3, 3, 0)
    assert _adds_up(state)


@pytest.mark.parametrize("error", [InvalidInputError("no such picture"), ModelError("the head failed")])
def test_a_frame_that_cannot_be_encoded_is_counted_and_the_next_is_spooled(tmp_path, error):
    """Neither a frame nor a head of a split network that fails ends the encoding thread."""
    spool, refusals = Spool(tmp_path / "s", _LIMITS, Clock(), _ignored, _ignored), []
    picture = encoded("f1", 1)
    outcomes = [error, picture]

    def encode(frame):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    intake = Intake(spool, encode, refusals.append)
    for number in range(2):
        intake.store(frame(number), result(f"f{number}"))
    intake.close()
    intake.run()
    spool.close()
    spool.run()
    assert (refusals, spool.state().accepted) == ([Refusal.NOT_ENCODED], 1)


_WRITER = """
import itertools, sys
from pathlib import Path
from spillover.common.log import configure_logging
from spillover.edge.spool.spool import Spool
from spillover.edge.spool.values import Offer, SpoolLimits
configure_logging("error", as_json=False)
ignored = lambda *_: None
spool = Spool(Path(sys.argv[1]), SpoolLimits(1 << 20, 1e6), lambda: 1.0, ignored, ignored)
for number in itertools.count(int(sys.argv[2])):
    before = spool.state().accepted
    spool.step([Offer(float(number), "key", b"%d " % number * 3000)])
    if spool.state().accepted > before:
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


def test_kill_9_loses_nothing_that_was_accepted(tmp_path):
    """A process killed while it writes: what it said was accepted is there, whole, but for what made room."""
    accepted = -1
    for lines in (1, 3, 17, 29, 60):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path / "s"), str(accepted + 1)],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            for _ in range(lines):
                accepted = int(writer.stdout.readline())
            writer.kill()
            for line in writer.stdout:
                accepted = int(line) if line.endswith("\n") else accepted
        spool = Spool(tmp_path / "s", _LIMITS_OF_WRITER, Clock(), _ignored, _ignored)
        spool.step([])
        numbers = []
        while (taken := spool.take()) is not None:
            numbers.append(int(taken.body.split()[0]))
            assert taken.body == b"%d " % numbers[-1] * 3000
        state = spool.state()
        # A kill may tear the record that was being written; it was never said to be accepted.
        assert state.corrupt <= 1
        # The last record may be on the disk and not yet have been said to be.
        assert numbers == list(range(max(numbers), min(numbers) - 1, -1))
        assert accepted <= max(numbers) <= accepted + 1
        assert min(numbers) == 0 or len(numbers) >= 20
        accepted = max(numbers)
        spool.close()
        spool.run()


_FULL_DISK = """
import resource, sys
from pathlib import Path
from spillover.edge.spool.spool import Spool
from spillover.edge.spool.values import Offer, SpoolLimits
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
refusals = []
spool = Spool(Path(sys.argv[1]), SpoolLimits(1 << 20, 100.0), lambda: 1.0, print, refusals.append)
spool.step([Offer(1.0, "key", b"x")])
state = spool.state()
assert state.error and len(refusals) == 1 and state.accepted == 0, state
print(state.error)
"""


def test_a_disk_without_room_is_known_at_the_start(tmp_path):
    """Room is taken once, when the spool opens; without it the state says so and nothing crashes."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Errno" in done.stdout


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"may not mount a small disk here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_costs_the_spool_and_heals(small_disk):
    """On a disk filled by others the spool says so; when room is made, it opens and keeps records."""
    clock = Clock()
    (small_disk / "others").write_bytes(bytes(200 * 1024))
    spool = Spool(small_disk / "s", SpoolLimits(128 * 1024, 100.0), clock, _ignored, _ignored)
    spool.step([Offer(1.0, "key", b"x")])
    assert "No space left" in spool.state().error
    (small_disk / "others").unlink()
    clock.now_s += 2
    spool.step([Offer(1.0, "key", b"y")])
    (small_disk / "others").write_bytes(bytes(100 * 1024))
    for number in range(50):
        spool.step([Offer(float(number), "key", bytes(9000))])
    state = spool.state()
    assert (state.error, _adds_up(state), state.accepted) == ("", True, 51)
    spool.close()
    spool.run()


def test_the_observer_hears_of_every_fate_by_key(tmp_path):
    """Accepted, answered, evicted, expired, corrupt: each is told once, with the key that was offered."""
    heard, clock = [], Clock()
    spool = Spool(
        tmp_path / "s",
        SpoolLimits(3 * BLOCK_BYTES, 100.0),
        clock,
        lambda fate, key: heard.append((fate, key)),
        _ignored,
    )
    spool.step([Offer(float(n), f"frame-{n}", b"%d" % n) for n in range(4)])
    spool.done(spool.take().record_id, answered=True)
    data = bytearray((tmp_path / "s").read_bytes())
    at = data.index(b"frame-2") + MAX_KEY_BYTES
    data[at] ^= 1
    (tmp_path / "s").write_bytes(data)
    assert spool.take().body == b"1"
    spool.give_back(2)
    clock.now_s += 1000
    spool.step([])
    accepted = [(Fate.ACCEPTED, f"frame-{n}") for n in range(4)]
    assert heard == [
        (Fate.EVICTED, "frame-0"),
        *accepted,
        (Fate.ANSWERED, "frame-3"),
        (Fate.CORRUPT, "frame-2"),
        (Fate.EXPIRED, "frame-1"),
    ]
