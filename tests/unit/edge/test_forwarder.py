"""The spool with its threads: what its stop commits, and what hangs."""

import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from spillover.common.errors import InUseError
from spillover.common.types import Frame
from spillover.edge.config import SpoolConfig
from spillover.edge.link.state import LinkState
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.results.delivery import DeliveryAck
from spillover.edge.spool.forwarder import Forwarder
from spillover.edge.uplink.outcome import CallFailure, CallOutcome
from tests.support.edge_values import encoded, frame, result
from tests.support.stopping import Hang, wait_for_thread

ENCODED = encoded()


class HungUplink:
    """A link with room, whose calls hang."""

    def __init__(self, hang: Hang) -> None:
        self._hang = hang

    def link(self) -> LinkState:
        """There is room."""
        return LinkState(in_flight=0, max_in_flight=4)

    def deliver(self, encoded_frame: EncodedFrame, timeout_s: float) -> CallOutcome:
        """Hang, then fail."""
        self._hang.wait()
        return CallFailure("unavailable")


def forwarder_of(path: Path, uplink: HungUplink, hang: Hang) -> Forwarder:
    """A spool whose encoder hangs at the first frame."""

    def pack(_: Frame) -> EncodedFrame:
        hang.wait()
        return ENCODED

    return Forwarder(
        SpoolConfig(str(path), max_mb=1.0),
        pack,
        uplink,
        lambda fate, key: None,
        lambda reason: None,
        lambda result: DeliveryAck(0),
        lambda ended: None,
    )


def test_the_stop_commits_though_encoder_and_delivery_hang(tmp_path: Path) -> None:
    """Both are named and left behind; what had been handed over is on the disk, and the file is closed."""
    encoding, delivering = Hang(), Hang()
    forwarder = forwarder_of(tmp_path / "s", HungUplink(delivering), encoding)
    forwarder.start()
    forwarder.store_encoded(ENCODED, result("f"))
    assert delivering.entered.wait(30)
    forwarder.store(frame(), result("kept"))
    assert encoding.entered.wait(30)
    forwarder.store_encoded(ENCODED, result("g"))
    assert not forwarder.stop(time.monotonic())
    wait_for_thread("spool-write")
    with capture_logs() as log:
        assert not forwarder.stop(time.monotonic())
    assert [line["part"] for line in log] == ["spool-encode", "spool-drain"]
    state = forwarder.state()
    assert (state.accepted, state.pending, state.error) == (2, 2, "closed")
    encoding.release.set()
    delivering.release.set()
    assert forwarder.stop(time.monotonic() + 30)


@pytest.mark.parametrize("frames", [0, 3])
def test_a_stop_in_which_nothing_hangs_ends_every_thread(tmp_path: Path, frames: int) -> None:
    """What is still to be encoded when the stop begins is encoded and committed."""
    hang = Hang()
    hang.release.set()
    forwarder = forwarder_of(tmp_path / "s", HungUplink(hang), hang)
    forwarder.start()
    for number in range(frames):
        forwarder.store(frame(number), result(f"kept-{number}"))
    assert forwarder.stop(time.monotonic() + 30)
    assert forwarder.state().accepted == frames


def test_a_spool_of_another_daemon_ends_the_start(tmp_path: Path) -> None:
    """The error names the path, and no thread of the second one is left; the first goes on."""
    hang = Hang()
    hang.release.set()
    first, second = (forwarder_of(tmp_path / "s", HungUplink(hang), hang) for _ in range(2))
    first.start()
    before = set(threading.enumerate())
    with pytest.raises(InUseError, match=str(tmp_path / "s")):
        second.start()
    assert set(threading.enumerate()) <= before
    first.store(frame(), result("kept"))
    assert first.stop(time.monotonic() + 30)
    assert first.state().accepted == 1
