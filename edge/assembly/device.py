"""Builds the parts that all cameras of a device share, in the order of their dependencies."""

import time
from contextlib import ExitStack

from spillover.common.model.pictures import VisionModel
from spillover.edge.assembly.offload import build_backbone, build_offload
from spillover.edge.assembly.policy import report_threshold
from spillover.edge.assembly.sinks import SinkBuilder
from spillover.edge.assembly.variants import policies_for
from spillover.edge.device import Device, Reporting, Run
from spillover.edge.inference.multi_view import build_multi_view
from spillover.edge.inference.predictor import GuardedPredictor
from spillover.edge.policy.auditor import Auditor
from spillover.edge.results.deadlines import DeadlineTable
from spillover.edge.runtime.frame_clock import FrameClock
from spillover.edge.sinks.outlets import Outlets
from spillover.edge.telemetry.frame_events import FrameEvents
from spillover.edge.telemetry.metrics import Metrics


def build_device(
    run: Run, model: VisionModel, variants: tuple[VisionModel, ...], opened: ExitStack
) -> Device:
    """Build the shared parts; what has to be closed should a later part fail goes on `opened`.

    Raises:
        ConfigError: a value does not fit the model, or a file cannot be opened.
        ModelError: a head of a split network is damaged.
    """
    config, threshold = run.config, report_threshold(run.config, model)
    policies = policies_for(config, (model, *variants))
    reporting = _reporting(run, model, opened)
    backbone = build_backbone(config, model)
    offload = build_offload(run, model, backbone, reporting)
    opened.callback(lambda: offload.stop(time.monotonic() + 5.0))
    edge_error = reporting.metrics.edge_error
    auditor = Auditor(config.policy.agree_from, threshold, config.policy.max_error, edge_error)
    rescue = offload.forwarder.store_encoded if offload.forwarder else None
    return Device(
        model=model,
        predictor=GuardedPredictor(
            build_multi_view(config.model.multi_view, backbone or model, model.folder.task),
            reporting.metrics.boxes_dropped,
            [build_multi_view(config.model.multi_view, one, one.folder.task) for one in variants],
        ),
        policies=policies,
        auditor=auditor,
        deadlines=DeadlineTable(reporting.events.result, time.monotonic, rescue, auditor.answered),
        offload=offload,
        reporting=reporting,
        variants=variants,
    )


def _reporting(run: Run, model: VisionModel, opened: ExitStack) -> Reporting:
    metrics = Metrics()
    metrics.model(model.manifest)
    outlets = Outlets(sink_builder(model, metrics).build(run.config), run.on_end)
    opened.callback(outlets.discard)
    return Reporting(metrics, outlets, FrameEvents(metrics, outlets.put, FrameClock(run.boot_id)))


def sink_builder(model: VisionModel, metrics: Metrics) -> SinkBuilder:
    """What makes the sinks of a device, at its start and when it is reloaded."""
    return SinkBuilder(model.folder.labels, metrics.result_dropped, metrics.event_dropped)
