"""Builds the status of a running daemon from its parts. Any thread may ask; nothing waits for a disk."""

import os
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from spillover.common.net.addresses import without_password
from spillover.common.types import AnsweredBy
from spillover.edge.camera.source import CameraState
from spillover.edge.config import CameraConfig, EdgeConfig, Mode
from spillover.edge.device import Device, Reporting
from spillover.edge.events.reporter import ObjectEvents
from spillover.edge.events.values import Direction
from spillover.edge.health.keeper import Keeper
from spillover.edge.health.monitor import HealthMonitor
from spillover.edge.link.estimator import PRIOR
from spillover.edge.link.state import BreakerPhase
from spillover.edge.sinks.outlet import OutletState
from spillover.edge.spool.values import Fate, SpoolState
from spillover.edge.status.values import (
    BudgetStatus,
    CameraStatus,
    ErrorStatus,
    FrameStatus,
    LineStatus,
    LinkStatus,
    ModelStatus,
    SinkStatus,
    SpoolStatus,
    Status,
    TrackingStatus,
    ZoneStatus,
)
from spillover.edge.stream import CameraStream
from spillover.edge.telemetry.metrics import Counts
from spillover.edge.uplink.call_status import OK, RETRIED

_NO_FAULT = {SpoolState().error, "closed"}
"""What a spool says of its disk before it is opened and after it is closed."""


@dataclass(frozen=True, slots=True)
class StatusSource:
    """Everything that the status of one run is read from. `clock` gives monotonic seconds."""

    config: EdgeConfig
    config_path: str
    boot_id: str
    device: Device
    streams: Sequence[tuple[CameraConfig, CameraStream]]
    health: HealthMonitor
    started_s: float
    keeper: Keeper | None = None
    clock: Callable[[], float] = time.monotonic

    def __call__(self) -> Status:
        """The status now."""
        reporting, now_s = self.device.reporting, self.clock()
        counts = reporting.metrics.counts()
        offload = self.device.offload
        meter, forwarder = offload.meter, offload.forwarder
        predictor = self.device.predictor
        model = predictor.model_id
        sinks = reporting.outlets.states()
        return Status(
            version=_version(),
            device_id=self.config.device_id,
            boot_id=self.boot_id,
            process_id=os.getpid(),
            config=self.config_path,
            mode=self.config.mode.value,
            uptime_s=now_s - self.started_s,
            model=ModelStatus(
                name=model.name,
                version=model.version,
                sha256=self.device.model_of(predictor.variant).manifest.sha256,
                boxes_dropped=counts.boxes_dropped,
            ),
            cameras=tuple(self._camera(config, stream, now_s) for config, stream in self.streams),
            frames=_frames(counts, reporting),
            link=None if self.config.mode is Mode.EDGE_ONLY else self._link(counts, now_s),
            budget=BudgetStatus(
                charged_bytes=meter.charged_bytes,
                left_bytes=meter.tokens().left_bytes,
                bucket_bytes=meter.tokens().bucket_bytes,
            )
            if meter
            else None,
            spool=_spool(forwarder.state(), counts) if forwarder else None,
            sinks=tuple(_sink(state, counts, now_s) for state in sinks),
            former_sinks_lost=_former_sinks(counts, {state.name for state in sinks}),
            edge_error=ErrorStatus(share=error.error, low=error.low, high=error.high, audits=error.audits)
            if (error := counts.edge_error)
            else None,
            health=self.health.latest(),
            work=reporting.events.work(),
            ladder=self.keeper.state() if self.keeper else None,
        )

    def _camera(self, config: CameraConfig, stream: CameraStream, now_s: float) -> CameraStatus:
        reported = self.device.reporting.events.camera_is(config.camera_id)
        captured = stream.camera.captured
        silent = CameraState.OK.value if captured else "starting"
        return CameraStatus(
            name=config.camera_id,
            source=without_password(config.source),
            state=reported.state if reported else silent,
            detail=reported.detail if reported else "",
            state_age_s=now_s - reported.since_s if reported else None,
            captured=captured,
            frames_per_s=stream.camera.rate.per_s(),
            thinned=dict(stream.camera.thinned),
            scene_fps=stream.camera.scene_fps,
            reused=stream.pipeline.reused,
            tracking=TrackingStatus(shown=counts.shown, cuts=counts.cuts, dropped=dict(counts.dropped))
            if (counts := stream.pipeline.tracking)
            else None,
            zones=_zones(events) if (events := stream.pipeline.settings.events) else (),
            lines=_lines(events) if events else (),
        )

    def _link(self, counts: Counts, now_s: float) -> LinkStatus:
        uplink, breaker = self.device.offload.uplink, self.device.reporting.events.breaker_is
        state = uplink.link()
        estimate = state.view.estimate
        is_measured = (estimate.rtt_s, estimate.rate_bytes_per_s) != (PRIOR.rtt_s, PRIOR.rate_bytes_per_s)
        calls = {status: count for status, count in counts.calls.items() if status != RETRIED}
        return LinkStatus(
            address=self.config.uplink.address,
            breaker=breaker.state,
            breaker_age_s=now_s - breaker.since_s,
            breaker_reason="" if breaker.state == BreakerPhase.CLOSED.value else breaker.detail,
            misfit=self.device.reporting.events.misfit,
            round_trip_s=estimate.rtt_s if is_measured else None,
            bytes_per_s=estimate.rate_bytes_per_s if is_measured else None,
            in_flight=state.in_flight,
            attempted=sum(calls.values()),
            sent=counts.sent,
            failed={status: count for status, count in calls.items() if status != OK},
            payload=self.device.offload.payload(),
            payload_bytes=counts.payload_bytes,
            keys=counts.keys,
            certificate_ends_unix_s=counts.certificate_ends_unix_s,
        )


def _zones(events: ObjectEvents) -> tuple[ZoneStatus, ...]:
    zones = events.by_label(events.counts)
    return tuple(ZoneStatus(name=name, count=sum(of.values()), classes=of) for name, of in zones.items())


def _lines(events: ObjectEvents) -> tuple[LineStatus, ...]:
    lines = events.counts.lines
    return tuple(
        LineStatus(name=name, in_count=ways[Direction.IN], out_count=ways[Direction.OUT])
        for name, ways in lines.items()
    )


def _frames(counts: Counts, reporting: Reporting) -> FrameStatus:
    edge, cloud, degraded = (counts.endings.get(ending.value, 0) for ending in AnsweredBy)
    wanted = cloud + degraded
    return FrameStatus(
        captured=counts.captured,
        edge=edge,
        cloud=cloud,
        edge_degraded=degraded,
        dropped=counts.dropped,
        under_way=counts.captured - edge - wanted - sum(counts.dropped.values()),
        revisions=counts.revisions,
        answered_per_s=reporting.events.answered.per_s(),
        on_time_share=cloud / wanted if wanted else None,
        sent_share=counts.sent / counts.captured if counts.captured else None,
    )


def _spool(state: SpoolState, counts: Counts) -> SpoolStatus:
    fates = {fate.value: getattr(state, fate.value) for fate in Fate if fate is not Fate.ACCEPTED}
    return SpoolStatus(
        recovered=state.recovered,
        accepted=state.accepted,
        fates={fate: count for fate, count in fates.items() if count},
        pending=state.pending,
        pending_bytes=state.pending_bytes,
        oldest_age_s=state.oldest_age_s,
        refused=counts.spool_refused,
        error="" if state.error in _NO_FAULT else state.error,
    )


def _sink(state: OutletState, counts: Counts, now_s: float) -> SinkStatus:
    return SinkStatus(
        name=state.name,
        stored=state.stored,
        waiting=state.waiting,
        lost={why: count for (sink, why), count in counts.results_dropped.items() if sink == state.name},
        events_lost={
            why: count for (sink, why), count in counts.events_dropped.items() if sink == state.name
        },
        failing=state.failing,
        last_error=state.last_error,
        last_error_age_s=now_s - state.last_error_s if state.last_error else None,
    )


def _former_sinks(counts: Counts, current: Set[str]) -> dict[str, int]:
    lost: dict[str, int] = {}
    for (sink, _), count in counts.results_dropped.items():
        if sink not in current:
            lost[sink] = lost.get(sink, 0) + count
    return lost


def _version() -> str:
    try:
        return version("spillover")
    except PackageNotFoundError:
        return "unknown"
