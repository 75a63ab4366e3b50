"""The parts that all cameras of a device share: model, policy, uplink, deadlines, sinks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spillover.common.model.pictures import VisionModel
from spillover.edge.config import EdgeConfig
from spillover.edge.inference.predictor import GuardedPredictor
from spillover.edge.link.byte_budget import ByteMeter
from spillover.edge.link.trace import LinkRecorder
from spillover.edge.policy.auditor import Auditor
from spillover.edge.policy.chain import Policy
from spillover.edge.results.deadlines import DeadlineTable
from spillover.edge.runtime.parts import OnEnd
from spillover.edge.sinks.outlets import Outlets
from spillover.edge.spool.forwarder import Forwarder
from spillover.edge.telemetry.frame_events import FrameEvents
from spillover.edge.telemetry.metrics import Metrics
from spillover.edge.uplink.base import Uplink


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the daemon is built from."""

    config: EdgeConfig
    boot_id: str
    on_end: OnEnd
    """Called by each thread of the daemon that ends."""
    record_link: Path | None = None
    """Where the link's trace goes."""
    require_camera: bool = False
    """Whether a live camera that is not there at the start is an error."""


@dataclass(frozen=True, slots=True, eq=False)
class Offload:
    """The way to the cloud. What a configuration does without is None."""

    uplink: Uplink
    forwarder: Forwarder | None = None
    meter: ByteMeter | None = None
    recorder: LinkRecorder | None = None
    payload: Callable[[], str] = str
    """In words what is sent of a frame now."""

    def stop(self, deadline_s: float) -> bool:
        """End the calls, then close the files of budget and link trace; tell whether all calls ended in time.

        `deadline_s` is monotonic.
        """
        has_ended = self.uplink.stop(deadline_s)
        if self.meter:
            self.meter.close()
        if self.recorder:
            self.recorder.close()
        return has_ended


@dataclass(frozen=True, slots=True, eq=False)
class Reporting:
    """Where results and events go: counted in `metrics`, written by the sinks behind `outlets`."""

    metrics: Metrics
    outlets: Outlets
    events: FrameEvents


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """The shared parts of one daemon; `edge.assembly.device` builds them.

    Predictor and policy are for one thread at a time: the one that runs the pipelines of all cameras.
    """

    model: VisionModel
    """What the device is built around; `predictor` runs it."""
    predictor: GuardedPredictor
    policies: tuple[Policy, ...]
    """By model: what pipelines begin with that have none of their own; a reload gives them others."""
    auditor: Auditor
    deadlines: DeadlineTable
    offload: Offload
    reporting: Reporting
    variants: tuple[VisionModel, ...] = ()
    """Smaller models that `predictor` can run in place of `model`."""

    def model_of(self, variant: int) -> VisionModel:
        """The model itself (0), or a variant by its number from 1 on."""
        return self.variants[variant - 1] if variant else self.model
