"""Builds the path to the cloud from the configuration: payload encoder, byte budget, uplink, spool."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from spillover.common.config import under_key
from spillover.common.errors import ConfigError, InvalidInputError
from spillover.common.log import get_logger
from spillover.common.model.exit import load_exit_info
from spillover.common.model.locate import find_model_folder
from spillover.common.model.pictures import VisionModel
from spillover.common.model.runtimes.onnxruntime import check_providers
from spillover.common.model.session import Model
from spillover.common.tasks.base import TaskSpec
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Prediction
from spillover.edge.assembly.policy import measured_fidelity, report_filter
from spillover.edge.config import (
    REFRESHING,
    EdgeConfig,
    Mode,
    PayloadKind,
    PictureVariant,
    UplinkConfig,
    VideoConfig,
)
from spillover.edge.device import Offload, Reporting, Run
from spillover.edge.link.byte_budget import ByteMeter, Unmetered, build_meter
from spillover.edge.link.payload_costs import PayloadCostModel, build_payload_costs, unobserved
from spillover.edge.link.trace import LinkRecorder
from spillover.edge.payload.backbone import BackboneWithFeatures
from spillover.edge.payload.encoder import TENSOR, VIDEO, PayloadEncoder, StreamEncoder
from spillover.edge.payload.feature_streams import FeatureStreams
from spillover.edge.payload.features import FeatureEncoder
from spillover.edge.payload.rate_factor import AS_JPEG
from spillover.edge.payload.tensors import TensorEncoder
from spillover.edge.payload.video import VideoStreams, check_codec
from spillover.edge.spool.forwarder import Forwarder
from spillover.edge.telemetry.metrics import Metrics
from spillover.edge.uplink.base import NoUplink, Uplink

_log = get_logger("uplink")


def build_backbone(config: EdgeConfig, model: VisionModel) -> BackboneWithFeatures | None:
    """The model as a backbone whose features can be sent; None where it is none, or pictures are sent."""
    if config.mode is Mode.EDGE_ONLY or not config.uplink.payload.has_features:
        return None
    info = load_exit_info(model.folder.path)
    # Every frame under way, the one that is being decided on, and one to spare.
    if info is None or not isinstance(model, Model):  # a fused model has no one backbone
        return None
    return BackboneWithFeatures(model, info, config.uplink.max_in_flight + 2)


def build_offload(
    run: Run, model: VisionModel, backbone: BackboneWithFeatures | None, reporting: Reporting
) -> Offload:
    """Build the way to the cloud. Nothing is started and nothing is sent yet.

    Raises:
        ConfigError: a value does not fit the model or the protocol, or a file cannot be written.
        ModelError: a head of a split network is damaged.
    """
    config = with_variants(run.config, model.folder.task)
    if config.mode is Mode.EDGE_ONLY:
        if run.record_link:
            raise ConfigError("mode: edge_only has no link to record")
        return Offload(NoUplink())
    task = model.folder.task
    fidelity = measured_fidelity(config.policy)
    _check_variants(config.uplink.variants or (), task)
    tensors = TensorEncoder(config.uplink, config.uplink.oip, task) if config.uplink.oip else None
    heads = _heads(config.uplink, backbone)
    streams = _streams(config, heads, reporting.metrics)
    encoder = PayloadEncoder(config.uplink, run.boot_id, {TENSOR: tensors} if tensors else heads, streams)
    recorder = LinkRecorder(run.record_link, time.monotonic) if run.record_link else None
    observe = recorder.note if recorder else unobserved
    outlooks = {name: stream.outlook for name, stream in streams.items()}
    cuts = [head.cut for head in heads.values()]
    costs = build_payload_costs(config.uplink, cuts, observe, fidelity, outlooks)
    meter = _meter(config, reporting.metrics)
    uplink = _uplink(
        config, task, encoder, tensors, costs, meter, reporting, reported_of_answers(config, model)
    )
    forwarder = _forwarder(run, encoder, uplink, reporting)
    video = streams.get(VIDEO)
    said = partial(_sent_now, config.uplink, video if isinstance(video, VideoStreams) else None)
    return Offload(uplink, forwarder, meter, recorder, said)


def in_words(config: UplinkConfig, *, has_video: bool) -> str:
    """What is sent of a frame, for people."""
    picture = f"JPEG of quality {config.jpeg_quality}"
    match config.payload:
        case PayloadKind.VIDEO if has_video:
            return f"video: H.264 of {config.video.longest_side} pixels, {_rate_factor(config.video)}"
        case PayloadKind.VIDEO:
            return f"{picture}: there is no codec for video here"
        case PayloadKind.FEATURES:
            return f"features, {picture} where the server has no tail for them"
        case PayloadKind.FEATURES_ONLY:
            return "features, never a picture"
        case PayloadKind.AUTO:
            return f"features or {picture}, whichever is answered first"
        case PayloadKind.PICTURE:
            return "tensors" if config.oip else picture


def _rate_factor(config: VideoConfig) -> str:
    return f"crf {config.crf}" if config.crf else f"as good as JPEG of quality {AS_JPEG}"


def _sent_now(config: UplinkConfig, video: VideoStreams | None) -> str:
    """As `in_words`, with the rate factor of each camera, and those whose streams pause, and why."""
    said = [in_words(config, has_video=video is not None)]
    if video and not config.video.crf and (factors := video.rate_factors()):
        said.append(", ".join(f"crf {crf} ({camera_id})" for camera_id, crf in factors.items()))
    if video and (paused := video.paused()):
        now = ", ".join(f"{camera_id} ({cause.value})" for camera_id, cause in paused.items())
        said.append(f"JPEG now: {now}")
    return "; ".join(said)


def with_variants(config: EdgeConfig, task: TaskSpec[Any]) -> EdgeConfig:
    """The configuration with the picture variants that a model of this task has unless they are named."""
    uplink = config.uplink
    tracks = config.tracking is not None and task.name == DETECTION.name
    if uplink.variants is not None or config.mode is not Mode.HYBRID or uplink.oip or not tracks:
        return config
    return replace(config, uplink=replace(uplink, variants=REFRESHING))


def check_offload(config: EdgeConfig, model: VisionModel) -> None:
    """Build what is built from files alone, and let go of it.

    Raises:
        ConfigError, ModelError: as `build_offload` does.
    """
    if config.mode is Mode.EDGE_ONLY:
        return
    task = model.folder.task
    _check_variants(config.uplink.variants or (), task)
    if config.uplink.oip:
        TensorEncoder(config.uplink, config.uplink.oip, task)
    _heads(config.uplink, build_backbone(config, model))


def reported_of_answers(config: EdgeConfig, model: VisionModel) -> Callable[[Prediction], Prediction]:
    """What is reported of the cloud's answers: boxes of wanted classes; of these all that it sends.

    Where both sides' confidences are on one scale and thresholds are set, these hold for answers too, so that
    what is reported does not depend on who answers. On another scale they would cut off other boxes.
    """
    own = report_filter(config, model)
    if model.manifest.output.calibration is None:
        return own.wanted
    usual = config.model.report_threshold
    return own.reported if usual is not None else dataclasses.replace(own, usual=0.0).reported


def _check_variants(variants: Sequence[PictureVariant], task: TaskSpec[Any]) -> None:
    if task.locates and any(variant.square for variant in variants):
        raise ConfigError(f"uplink.variants: square leaves out what a model for {task.name} has to see")


def _heads(config: UplinkConfig, backbone: BackboneWithFeatures | None) -> dict[str, FeatureEncoder]:
    """An encoder for each cut; none where pictures are sent."""
    if config.split is None or not config.payload.has_features:
        return {}
    session = config.split.session
    check_providers(session, "uplink.split.session")
    with under_key("uplink.split.folder"):
        folder = find_model_folder(config.split.folder)
    return {cut: FeatureEncoder(folder, cut, session, backbone) for cut in config.split.cuts}


def _streams(
    config: EdgeConfig, heads: Mapping[str, FeatureEncoder], metrics: Metrics
) -> dict[str, StreamEncoder]:
    """What codes frames against what was sent before: video, and features of cuts that are planned for it."""
    cameras = len(config.all_cameras)
    streams: dict[str, StreamEncoder] = {
        cut: FeatureStreams(head, head.cut.inter, cameras, metrics)
        for cut, head in heads.items()
        if head.cut.inter is not None
    }
    if config.uplink.payload is not PayloadKind.VIDEO:
        return streams
    try:
        check_codec(config.uplink)
    except (ConfigError, InvalidInputError) as error:
        _log.warning("JPEG goes in place of video", error=str(error))
        return streams
    return streams | {VIDEO: VideoStreams(config.uplink, cameras, metrics)}


def _meter(config: EdgeConfig, metrics: Metrics) -> ByteMeter | None:
    if config.policy.budget is None:
        return None
    meter = build_meter(config.policy.budget, config.uplink, config.device_id)
    metrics.watch_budget(lambda: meter.tokens().left_bytes, lambda: meter.charged_bytes)
    return meter


def _uplink(
    config: EdgeConfig,
    task: TaskSpec[Any],
    encoder: PayloadEncoder,
    tensors: TensorEncoder | None,
    costs: PayloadCostModel,
    meter: ByteMeter | None,
    reporting: Reporting,
    reported: Callable[[Prediction], Prediction],
) -> Uplink:
    # gRPC takes 15 MB that a daemon without a cloud does not need.
    from spillover.edge.uplink.client import GrpcUplink
    from spillover.edge.uplink.ledger import CallLedger
    from spillover.edge.uplink.protocol import SpilloverWire, Wire

    wire: Wire = SpilloverWire(config.uplink, config.device_id)
    if tensors is not None and config.uplink.oip is not None:
        from spillover.edge.uplink.oip import OipWire  # generated code that others do not need

        wire = OipWire(config.uplink, config.uplink.oip, tensors)
    ledger = CallLedger(costs, meter or Unmetered(), reporting.events)
    uplink = GrpcUplink(config.uplink, encoder, wire, task.prediction, ledger, config.device_id, reported)
    uplink.trace(config.trace_share)
    if config.uplink.tls and config.uplink.tls.certificate:
        reporting.metrics.watch_certificate(uplink.certificate_expires_unix_s)
    return uplink


def _forwarder(run: Run, encoder: PayloadEncoder, uplink: Uplink, reporting: Reporting) -> Forwarder | None:
    if run.config.spool is None:
        return None
    events = reporting.events
    forwarder = Forwarder(
        run.config.spool,
        encoder.pack_to_wait,
        uplink,
        events.spooled,
        events.refused,
        events.late,
        run.on_end,
    )
    reporting.metrics.watch_spool(forwarder.state)
    return forwarder
