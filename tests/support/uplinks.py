"""A real uplink for tests, and what receives its replies and counts its calls."""

import threading
import time
from queue import SimpleQueue

from spillover.common.types import Classification, Frame, Prediction
from spillover.edge.config import UplinkConfig
from spillover.edge.link.byte_budget import ByteMeter, Unmetered
from spillover.edge.link.payload_costs import PayloadCostModel, build_payload_costs
from spillover.edge.link.state import BreakerPhase
from spillover.edge.payload.encoder import PayloadEncoder
from spillover.edge.uplink.base import Uplink
from spillover.edge.uplink.client import GrpcUplink
from spillover.edge.uplink.ledger import CallLedger, UplinkObserver
from spillover.edge.uplink.outcome import CallFailure, CallOutcome
from spillover.edge.uplink.protocol import SpilloverWire, Wire
from tests.support.scripted_cloud import PATIENCE_S


class RecordingReply:
    """A `ReplyHandler` that keeps what it gets."""

    def __init__(self) -> None:
        self.payloads: list[tuple[int, float]] = []
        """Bytes, and seconds that encoding took."""
        self.fallbacks: list[tuple[str, str]] = []
        """Form of the picture, and reason."""
        self.outcomes: list[CallOutcome] = []
        self._completed = threading.Event()

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Keep it."""
        self.payloads.append((payload_bytes, encode_s))

    def fall_back(self, option: str, reason: str) -> None:
        """Keep it."""
        self.fallbacks.append((option, reason))

    def complete(self, outcome: CallOutcome) -> None:
        """Keep it."""
        self.outcomes.append(outcome)
        self._completed.set()

    def outcome(self) -> CallOutcome:
        """Wait for the outcome."""
        assert self._completed.wait(PATIENCE_S), "the handler was never completed"
        return self.outcomes[0]

    def completed_within(self, seconds: float) -> bool:
        """Wait at most so long; tell whether there is an outcome."""
        return self._completed.wait(seconds)

    def failure(self) -> CallFailure:
        """Wait for the outcome, which must be a failure."""
        outcome = self.outcome()
        assert isinstance(outcome, CallFailure)
        return outcome


class RecordingObserver:
    """An `UplinkObserver` that keeps calls as (status, payload bytes, kind), and the breaker's phases."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[str, int, str]] = SimpleQueue()
        self.phases: list[BreakerPhase] = []
        self.misfits: list[str] = []

    def call(self, status: str, payload_bytes: int, kind: str) -> None:
        """Keep it."""
        self.calls.put((status, payload_bytes, kind))

    def breaker(self, phase: BreakerPhase, reason: str) -> None:
        """Keep it."""
        self.phases.append(phase)

    def fits(self, misfit: str) -> None:
        """Keep it."""
        self.misfits.append(misfit)

    def next_call(self) -> tuple[str, int, str]:
        """Wait for a call to end."""
        return self.calls.get(timeout=PATIENCE_S)


def send(uplink: Uplink, sent: Frame, seconds: float, useful_s: float = 0.0) -> RecordingReply:
    """Send a frame whose deadline is so far away, and whose answer is useful for so long."""
    reply, now_s = RecordingReply(), time.monotonic()
    uplink.send(sent, now_s + seconds, reply, useful_until_s=now_s + useful_s)
    return reply


def build_uplink(
    config: UplinkConfig,
    observer: UplinkObserver | None = None,
    expects: type[Prediction] = Classification,
    *,
    encoder: PayloadEncoder | None = None,
    wire: Wire | None = None,
    costs: PayloadCostModel | None = None,
    meter: ByteMeter | None = None,
    device_id: str = "dev",
) -> GrpcUplink:
    """An uplink as the daemon has it, with whatever part the test brings."""
    ledger = CallLedger(
        costs or build_payload_costs(config, ()), meter or Unmetered(), observer or RecordingObserver()
    )
    return GrpcUplink(
        config,
        encoder or PayloadEncoder(config, "boot"),
        wire or SpilloverWire(config, device_id),
        expects,
        ledger,
        device_id,
    )
