"""A disk that is slow, not broken, delays no first result: nothing before a result waits for it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from spillover.common.types import Frame, Result
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.results.deadlines import DeadlineTable
from spillover.edge.spool.forwarder import Intake
from spillover.edge.spool.record import BLOCK_BYTES
from spillover.edge.spool.spool import Spool
from spillover.edge.spool.values import Offer, Refusal, SpoolLimits
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.outcome import CallFailure
from tests.support.edge_values import encoded, result
from tests.support.slow_disk import Gate, returns

QUEUE = 4
FRAMES = 20


class Bench:
    """A spool whose writer waits for its disk, with room for `QUEUE` offers, and what fills it."""

    def __init__(self, folder: Path, gate: Gate) -> None:
        self.gate = gate
        self.results: list[Result] = []
        self.refusals: list[Refusal] = []
        limits = SpoolLimits(64 * BLOCK_BYTES, 100.0, commit_interval_s=0.0, queue_size=QUEUE)
        self.spool = Spool(folder / "s", limits, lambda: 0.0, lambda fate, key: None, self.refusals.append)
        intake = Intake(self.spool, _no_raw_frames, self.refusals.append)
        self.table = DeadlineTable(self.results.append, lambda: 0.0, intake.store_encoded)
        self._writer = threading.Thread(target=self.spool.run)
        self.spool.offer(Offer(9.0, "first", b"what the disk is busy with"))
        self._writer.start()
        gate.wait_until_reached()

    def fail_frames(self) -> None:
        """Send frames that the link cannot take: each is answered at once and goes to the spool."""
        for number in range(FRAMES):
            frame_id = f"cam-b-{number}"
            sent = encoded(frame_id, number)
            pending = self.table.register(result(frame_id), 0.0, 1.0)
            pending.complete(CallFailure(CallStatus.UNAVAILABLE, unsent=sent))

    def close(self) -> None:
        """Let the disk work, and wait for the writer."""
        self.gate.open()
        self.spool.close()
        self._writer.join(60)
        assert not self._writer.is_alive()


def _no_raw_frames(frame: Frame) -> EncodedFrame:
    raise AssertionError(f"{frame.frame_id} was encoded before")


@pytest.fixture(params=["fdatasync", "posix_fallocate"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The disk hangs in a commit, or in making room for the file when the spool opens."""
    gate = Gate(getattr(os, request.param))
    monkeypatch.setattr(os, request.param, gate)
    bench = Bench(tmp_path, gate)
    yield bench
    bench.close()


def test_no_first_result_waits_for_the_disk(bench: Bench) -> None:
    """More frames fail than the spool's queue holds while the disk hangs: each has its result at once."""
    assert returns(bench.fail_frames)
    assert [given.frame_id for given in bench.results] == [f"cam-b-{n}" for n in range(FRAMES)]


def test_what_a_slow_disk_cannot_take_is_counted(bench: Bench) -> None:
    """Every frame is refused with a reason or, once the disk goes on, accepted; the counters say which."""
    assert returns(bench.fail_frames)
    refused = len(bench.refusals)
    assert set(bench.refusals) == {Refusal.DISK_SLOW}
    assert FRAMES - QUEUE <= refused <= FRAMES - QUEUE + 1  # the first offer may still be in the queue
    bench.close()
    assert bench.spool.state().accepted == 1 + FRAMES - refused
    assert len(bench.refusals) == refused


def test_the_counters_can_be_read_while_the_disk_hangs(bench: Bench) -> None:
    """Metrics, and the end of a daemon that reads them, do not wait for the disk either."""
    assert returns(bench.spool.state)
