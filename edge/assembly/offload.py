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
from spillover.edge.assembly.policy import measured_kept
from spillover.edge.config import EdgeConfig, Mode, PayloadKind
from spillover.edge.link.byte_budget import ByteMeter, build_meter
from spillover.edge.link.payload_costs import PayloadBook, build_book, unobserved
from spillover.edge.link.trace import LinkRecorder
from spillover.edge.payload.backbone import SharedTrunk
from spillover.edge.payload.encoder import TENSOR, Packer
from spillover.edge.payload.features import FeatureEncoder
from spillover.edge.payload.tensors import TensorEncoder
from spillover.edge.runtime.worker import Ended
from spillover.edge.spool.forwarder import Forwarder
from spillover.edge.telemetry.frame_events import Journal
from spillover.edge.telemetry.metrics import Metrics
from spillover.edge.uplink.base import NoUplink, Uplink


@dataclass(frozen=True, slots=True, eq=False)
class Sending:
    """The way to the cloud. What a configuration does without is None."""

    uplink: Uplink
    trunk: SharedTrunk | None
    """The model, where its features are what is sent."""
    forwarder: Forwarder | None
    meter: ByteMeter | None
    recorder: LinkRecorder | None

    def close(self) -> None:
        """End the calls, then settle the accounts."""
        self.uplink.close()
        if self.meter:
            self.meter.close()
        if self.recorder:
            self.recorder.close()


@dataclass(frozen=True, slots=True, eq=False)
class SendingBuilder:
    """Builds it for one daemon: its model, its books, and whom a part that ends tells."""

    config: EdgeConfig
    model: Model
    boot_id: str
    journal: Journal
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
        kept = measured_kept(self.config.policy)
        self._check_ladder(kept)
        trunk = self._trunk()
        tensors = self._tensors()
        heads = self._heads(trunk)
        packer = Packer(self.config.uplink, self.boot_id, {TENSOR: tensors} if tensors else heads)
        recorder = LinkRecorder(record_link, time.monotonic) if record_link else None
        cuts = [head.cut for head in heads.values()]
        book = build_book(self.config.uplink, cuts, recorder.note if recorder else unobserved, kept)
        meter = self._meter()
        uplink = self._uplink(packer, tensors, book, meter)
        return Sending(uplink, trunk, self._forwarder(packer, uplink), meter, recorder)

    def _check_ladder(self, measured: Mapping[str, float]) -> None:
        detects = self.model.manifest.task is Task.DETECTION
        ladder = self.config.uplink.ladder
        if detects and any(rung.square for rung in ladder):
            raise ConfigError("uplink.ladder: square leaves out what a detector has to see")
        crops = [rung for rung in ladder if rung.crop]
        if crops and not detects:
            raise ConfigError("uplink.ladder: crop is cut around boxes, and a classifier gives none")
        # Crops are small and often keep little: believed to keep all, they would be all that is ever sent.
        if any(rung.kept is None and rung.name not in measured for rung in crops):
            raise ConfigError("uplink.ladder: a crop needs `kept`, or a gain file of `lab fit --ladder`")

    def _uplink(
        self, packer: Packer, tensors: TensorEncoder | None, book: PayloadBook, meter: ByteMeter | None
    ) -> Uplink:
        # 15 MB that a daemon without a cloud need not carry.
        from spillover.edge.assembly.wire import build_wire
        from spillover.edge.uplink.client import GrpcUplink

        config = self.config.uplink
        expects = Classification if self.model.manifest.task is Task.CLASSIFICATION else Detections
        wire = build_wire(self.config, tensors)
        uplink = GrpcUplink(config, packer, wire, expects, self.journal, book, meter)
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

    def _heads(self, trunk: SharedTrunk | None) -> dict[str, FeatureEncoder]:
        """The heads; none where pictures are sent."""
        config = self.config.uplink
        if config.split is None or config.payload is PayloadKind.PICTURE:
            return {}
        folder, session = find_model_folder(config.split.folder), config.split.session
        return {cut: FeatureEncoder(folder, cut, session, trunk) for cut in config.split.cuts}

    def _trunk(self) -> SharedTrunk | None:
        """The model as a trunk whose features can be sent, where it is one and features are sent."""
        if self.config.uplink.payload is PayloadKind.PICTURE:
            return None
        info = load_exit_info(self.model.folder.path)
        # Every frame under way, the one that is being decided on, and one to spare.
        return SharedTrunk(self.model, info, self.config.uplink.max_in_flight + 2) if info else None

    def _forwarder(self, packer: Packer, uplink: Uplink) -> Forwarder | None:
        if self.config.spool is None:
            return None
        forwarder = Forwarder(
            self.config.spool,
            packer.pack_to_wait,
            uplink,
            self.journal.spooled,
            self.journal.refused,
            self.journal.late,
            self.tell,
        )
        self.metrics.watch_spool(forwarder.state)
        return forwarder
