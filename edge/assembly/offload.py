"""The way to the cloud, built from the configuration: what encodes, pays, calls, and waits on the disk."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spillover.common.errors import ConfigError
from spillover.common.model.exit import load_exit_info
from spillover.common.model.locate import find_model_folder
from spillover.common.model.manifest import Task
from spillover.common.model.session import Model
from spillover.common.types import Classification, Detections
from spillover.edge.assembly.policy import measured_fidelity
from spillover.edge.config import EdgeConfig, Mode, PayloadKind
from spillover.edge.link.byte_budget import ByteMeter, Unmetered, build_meter
from spillover.edge.link.payload_costs import PayloadCostModel, build_payload_costs, unobserved
from spillover.edge.link.trace import LinkRecorder
from spillover.edge.payload.backbone import BackboneWithFeatures
from spillover.edge.payload.encoder import TENSOR, PayloadEncoder
from spillover.edge.payload.features import FeatureEncoder
from spillover.edge.payload.tensors import TensorEncoder
from spillover.edge.runtime.worker import Ended
from spillover.edge.spool.forwarder import Forwarder
from spillover.edge.telemetry.metrics import FrameEvents, Metrics
from spillover.edge.uplink.base import NoUplink, Uplink


@dataclass(frozen=True, slots=True, eq=False)
class Sending:
    """The way to the cloud. What a configuration does without is None."""

    uplink: Uplink
    backbone: BackboneWithFeatures | None
    """The model, where its features are what is sent."""
    forwarder: Forwarder | None
    meter: ByteMeter | None
    recorder: LinkRecorder | None

    def stop(self, deadline_s: float) -> bool:
        """End the calls, then save the budget; tell whether all calls ended by `deadline_s` (monotonic)."""
        has_ended = self.uplink.stop(deadline_s)
        if self.meter:
            self.meter.close()
        if self.recorder:
            self.recorder.close()
        return has_ended


@dataclass(frozen=True, slots=True, eq=False)
class SendingBuilder:
    """Builds it for one daemon: its model, its books, and whom a part that ends tells."""

    config: EdgeConfig
    model: Model
    boot_id: str
    events: FrameEvents
    metrics: Metrics
    tell: Callable[[Ended], None]

    def build(self, record_link: Path | None) -> Sending:
        """Nothing is started and nothing is sent yet. `record_link` is where the link's trace goes.

        Raises:
            ConfigError: a value does not fit the model or the protocol, or a file cannot be written.
            ModelError: a head of a split network is damaged.
        """
        if self.config.mode is Mode.EDGE_ONLY:
            if record_link:
                raise ConfigError("mode: edge_only has no link to record")
            return Sending(NoUplink(), None, None, None, None)
        fidelity = measured_fidelity(self.config.policy)
        self._check_variants(fidelity)
        backbone = self._backbone()
        tensors = self._tensors()
        heads = self._heads(backbone)
        payload_encoder = PayloadEncoder(
            self.config.uplink, self.boot_id, {TENSOR: tensors} if tensors else heads
        )
        recorder = LinkRecorder(record_link, time.monotonic) if record_link else None
        cuts = [head.cut for head in heads.values()]
        payload_costs = build_payload_costs(
            self.config.uplink, cuts, recorder.note if recorder else unobserved, fidelity
        )
        meter = self._meter()
        uplink = self._uplink(payload_encoder, tensors, payload_costs, meter)
        return Sending(uplink, backbone, self._forwarder(payload_encoder, uplink), meter, recorder)

    def _check_variants(self, measured: Mapping[str, float]) -> None:
        detects = self.model.manifest.task is Task.DETECTION
        variants = self.config.uplink.variants
        if detects and any(variant.square for variant in variants):
            raise ConfigError("uplink.variants: square leaves out what a detector has to see")
        crops = [variant for variant in variants if variant.crop]
        if crops and not detects:
            raise ConfigError("uplink.variants: crop is cut around boxes, and a classifier gives none")
        # Crops are small and often keep little: believed to keep all, they would be all that is ever sent.
        if any(variant.fidelity is None and variant.name not in measured for variant in crops):
            raise ConfigError(
                "uplink.variants: a crop needs `fidelity`, or a gain file of `lab fit --variants`"
            )

    def _uplink(
        self,
        payload_encoder: PayloadEncoder,
        tensors: TensorEncoder | None,
        payload_costs: PayloadCostModel,
        meter: ByteMeter | None,
    ) -> Uplink:
        # 15 MB that a daemon without a cloud need not carry.
        from spillover.edge.assembly.wire import build_wire
        from spillover.edge.uplink.client import GrpcUplink
        from spillover.edge.uplink.ledger import CallLedger

        config = self.config.uplink
        expects = Classification if self.model.manifest.task is Task.CLASSIFICATION else Detections
        wire = build_wire(self.config, tensors)
        ledger = CallLedger(payload_costs, meter or Unmetered(), self.events)
        uplink = GrpcUplink(config, payload_encoder, wire, expects, ledger)
        if config.tls and config.tls.certificate:
            self.metrics.watch_certificate(uplink.certificate_days_left)
        return uplink

    def _meter(self) -> ByteMeter | None:
        budget = self.config.policy.budget
        if budget is None:
            return None
        meter = build_meter(budget, self.config.uplink, self.config.device_id)
        self.metrics.watch_budget(lambda: meter.tokens().left_bytes, lambda: meter.charged_bytes)
        return meter

    def _tensors(self) -> TensorEncoder | None:
        config = self.config.uplink
        return TensorEncoder(config, config.oip, self.model.manifest.task) if config.oip else None

    def _heads(self, backbone: BackboneWithFeatures | None) -> dict[str, FeatureEncoder]:
        """The heads; none where pictures are sent."""
        config = self.config.uplink
        if config.split is None or config.payload is PayloadKind.PICTURE:
            return {}
        folder, session = find_model_folder(config.split.folder), config.split.session
        return {cut: FeatureEncoder(folder, cut, session, backbone) for cut in config.split.cuts}

    def _backbone(self) -> BackboneWithFeatures | None:
        """The model as a backbone whose features can be sent, where it is one and features are sent."""
        if self.config.uplink.payload is PayloadKind.PICTURE:
            return None
        info = load_exit_info(self.model.folder.path)
        # Every frame under way, the one that is being decided on, and one to spare.
        return BackboneWithFeatures(self.model, info, self.config.uplink.max_in_flight + 2) if info else None

    def _forwarder(self, payload_encoder: PayloadEncoder, uplink: Uplink) -> Forwarder | None:
        if self.config.spool is None:
            return None
        forwarder = Forwarder(
            self.config.spool,
            payload_encoder.pack_to_wait,
            uplink,
            self.events.spooled,
            self.events.refused,
            self.events.late,
            self.tell,
        )
        self.metrics.watch_spool(forwarder.state)
        return forwarder
