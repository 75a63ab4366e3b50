"""What happens, counted for the metrics and told to the sinks: here alone frames are accounted for."""

import time
from collections.abc import Callable

from spillover.common.types import Frame, Result
from spillover.edge.link.state import BreakerPhase
from spillover.edge.results.delivery import DeliveryAck
from spillover.edge.results.events import Event
from spillover.edge.spool.arena import Fate
from spillover.edge.spool.spool import Refusal
from spillover.edge.telemetry.metrics import Metrics

Put = Callable[[Result | Event], DeliveryAck]


class FrameEvents:
    """Hears from every stage; no method blocks. `put` hands on to the sinks."""

    def __init__(self, metrics: Metrics, put: Put) -> None:
        self._metrics = metrics
        self._put = put

    def result(self, result: Result) -> None:
        """A frame's first result, or a revision."""
        self.late(result)

    def late(self, result: Result) -> DeliveryAck:
        """A revision of a frame that is forgotten as soon as a sink has it."""
        self._metrics.result(result)
        return self._put(result)

    def captured(self) -> None:
        """A frame got its number."""
        self._metrics.captured()

    def dropped(self, frame: Frame, reason: str) -> None:
        """A frame will have no result."""
        self._metrics.dropped(reason)
        self.tell("dropped", frame_id=frame.frame_id, sequence=frame.sequence, reason=reason)

    def unreadable(self) -> None:
        """A picture was damaged and never became a frame."""
        self._metrics.unreadable()

    def camera(self, camera_id: str, state: str, detail: str = "") -> None:
        """The camera works, or does not."""
        self._metrics.camera(state)
        self.tell("camera_state", camera_id=camera_id, state=state, detail=detail)

    def call(self, status: str, payload_bytes: int, kind: str) -> None:
        """A call to the cloud ended."""
        self._metrics.call(status, payload_bytes, kind)

    def breaker(self, phase: BreakerPhase) -> None:
        """The way to the cloud was found closed, or open."""
        self._metrics.breaker(phase)
        self.tell("breaker", phase=phase.value)

    def spooled(self, fate: Fate, frame_id: str) -> None:
        """Something became of a frame on the disk; the spool counts for itself."""
        self.tell("spool", frame_id=frame_id, fate=fate.value)

    def refused(self, refusal: Refusal) -> None:
        """The spool did not accept a frame that is worth a late answer."""
        self._metrics.spool_refused(refusal)

    def tell(self, kind: str, **fields: str | int | float) -> None:
        """Hand an event to the sinks."""
        self._put(Event(kind, time.time(), fields))
