"""The daemon: everything is built here, started in order, and stopped in the reverse of it."""

import os
import random
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue

import cv2

from common.errors import ConfigError, ModelError, SpilloverError
from common.log import get_logger
from common.model.exit import load_exit_info
from common.model.locate import find_model_folder
from common.model.manifest import Task
from common.model.session import Model
from common.model.split import Cut
from common.types import Classification, Detections
from edge.answers import Answers
from edge.audits import Auditor
from edge.budget import ByteMeter, build_meter
from edge.camera.camera import Camera
from edge.camera.open import open_source
from edge.camera.resilient import ResilientSource
from edge.camera.source import Source
from edge.camera.video import quiet_opencv
from edge.carry import build_carry
from edge.config import EdgeConfig, Mode, Pace, PayloadKind, Rung, SpoolConfig
from edge.features import FeatureEncoder
from edge.journal import Journal
from edge.link_record import LinkRecorder
from edge.memory import release_free_memory
from edge.metrics import Metrics, metrics_endpoint
from edge.model_watch import ModelWatch
from edge.parcel import TENSOR, Packer
from edge.payloads import PayloadBook, build_book, unobserved
from edge.pipeline import Pipeline, Stages, nothing_kept
from edge.policy.build import build_policy, measured_kept
from edge.policy.gain import EdgeSide
from edge.pulse import Pulse
from edge.redaction import build_redaction
from edge.second_look import SecondLook
from edge.sinks.build import build_outlets
from edge.sinks.outlets import Outlets
from edge.spool.forwarder import Forwarder
from edge.systemd import Notifier
from edge.tensors import TensorEncoder
from edge.trunk import SharedTrunk
from edge.uplink.base import NoUplink, Uplink
from edge.worker import Ended, Worker

_log = get_logger("edge")

JOIN_TIMEOUT_S = 10.0
"""How long a thread may take to end once its work is over: one frame, one write."""
LOOK_UP_S = 1.0
"""How often the main thread wakes though nothing happens."""


class Daemon:
    """One edge: `run` it once. `stop` may be called from any thread or signal handler.

    Raises:
        ConfigError: a value does not fit the model, or a sink cannot be opened.
        ModelError: the model folder is damaged.
        SourceError: the camera cannot be opened.
    """

    def __init__(self, config: EdgeConfig, record_link: Path | None = None) -> None:
        quiet_opencv()
        # One thread for pixels: OpenCV's pool would compete with ONNX Runtime's for the same few cores.
        cv2.setNumThreads(1)
        self._config = config
        self._boot_id = secrets.token_hex(6)
        # SimpleQueue, because a signal handler may interrupt its own thread inside `put` or `get`.
        self._events: SimpleQueue[Ended] = SimpleQueue()
        self.metrics = Metrics()
        self._notifier = Notifier(os.environ)
        self._pulse = Pulse(time.monotonic)
        self._model = Model.load(find_model_folder(config.model.folder), config.model.session)
        manifest = self._model.manifest
        _check_ladder(config.uplink.ladder, manifest.task)
        self._tensors = self._build_tensors(manifest.task)
        threshold = config.model.report_threshold
        report_threshold = manifest.output.confidence_threshold if threshold is None else threshold
        draw = random.Random(config.policy.seed).random  # noqa: S311 - a sample of frames, not a secret
        spool = config.spool if config.mode is not Mode.EDGE_ONLY else None
        spool_from = spool.min_gain if spool else None
        carry = build_carry(config.carry, manifest.task)
        policy = build_policy(
            config.mode,
            config.policy,
            manifest.task,
            report_threshold,
            draw,
            spool_from,
            config.carry,
            EdgeSide.of(manifest, config.model.second_look),
        )
        redact = build_redaction(
            config.redaction,
            self._model.folder.labels,
            detects=manifest.task is Task.DETECTION,
            class_count=self._model.class_count,
        )
        metrics, labels = self.metrics, self._model.folder.labels
        outlets = build_outlets(config, labels, metrics.result_dropped, metrics.event_dropped)
        self._outlets = Outlets(outlets, self._events.put)
        self._journal = Journal(self.metrics, self._outlets.put)
        self._source = self._open_source()
        read_ahead = len(os.sched_getaffinity(0)) > 1
        self._camera = Camera(
            self._source, config.camera, self._boot_id, self._journal, read_ahead=read_ahead
        )
        self._trunk = self._build_trunk()
        heads = self._build_heads()
        cuts = [head.cut for head in heads.values()]
        encoders = {TENSOR: self._tensors} if self._tensors else heads
        self._packer = Packer(config.uplink, self._boot_id, encoders)
        self._recorder = LinkRecorder(record_link, time.monotonic) if record_link else None
        self._book = self._build_book(cuts)
        self._meter = self._build_meter()
        self._uplink = self._build_uplink(manifest.task)
        self._forwarder = self._build_forwarder(spool)
        rescue = self._forwarder.rescue if self._forwarder else None
        self._auditor = Auditor(
            config.policy.agree_from, report_threshold, config.policy.max_error, self.metrics.edge_error
        )
        self._answers = Answers(self._journal.result, time.monotonic, rescue, self._auditor.answered)
        keep = self._forwarder.keep if self._forwarder else nothing_kept
        look = config.model.second_look
        plain = self._trunk or self._model
        predictor = SecondLook(plain, look.below, look.zoom) if look else plain
        self._watch = ModelWatch(predictor)
        stages = Stages(
            model=self._watch,
            policy=policy,
            uplink=self._uplink,
            answers=self._answers,
            emit=self._journal.result,
            keep=keep,
            auditor=self._auditor,
            carry=carry,
            redact=redact,
        )
        self._pipeline = Pipeline(stages, config.deadline_s, config.deadline_margin_s, report_threshold)
        self._deadlines = Worker("deadlines", self._answers.run, self._events.put)
        self._worker = Worker("pipeline", self._work, self._events.put)
        self._capture = Worker("camera", self._camera.run, self._events.put)

    def stop(self, reason: str) -> None:
        """Ask `run` to end: what is under way is finished or given up within limits, then it returns."""
        self._events.put(Ended(reason))

    def run(self) -> None:
        """Work until the source ends, `stop` is called, or a part fails; its error is raised at the end.

        Raises SpilloverError, too, when a sink has not one result, or the model failed on every frame.
        """
        release_free_memory()
        with ExitStack() as stack:
            stack.callback(self._summarise)
            stack.enter_context(metrics_endpoint(self._config.metrics_address, self.metrics.registry))
            self._outlets.start()
            stack.callback(self._close_outlets)
            if self._forwarder:
                self._forwarder.start()
                stack.callback(self._forwarder.close, JOIN_TIMEOUT_S)
            self._deadlines.start()
            stack.callback(self._close_answers)
            stack.callback(self._close_camera)
            self._worker.start()
            self._capture.start()
            self._say_ready()
            self._notifier.ready(f"mode {self._config.mode.value}")
            error = self._wait_for_end()
            self._notifier.stopping(str(error) if error else "asked to")
        if error is not None:
            raise error
        if self._watch.never_answered:
            raise ModelError("the model failed on every frame: the log says why")
        if empty := self._outlets.lost_everything:
            raise SpilloverError(f"not one result reached {', '.join(empty)}: the log says why")

    def _wait_for_end(self) -> Exception | None:
        """Sleep until there is a reason to end; meanwhile tell systemd that nothing hangs.

        A camera that is through leaves frames to the pipeline.
        """
        # A signal that comes just before the wait begins does not end it: Python runs its handler only when
        # this thread runs again. So no wait is long.
        watchdog_s = self._notifier.watchdog_s
        period_s = min(LOOK_UP_S, watchdog_s / 3) if watchdog_s else LOOK_UP_S
        while True:
            try:
                ended = self._events.get(timeout=period_s)
            except Empty:
                if watchdog_s and not self._pulse.hangs(watchdog_s):
                    self._notifier.alive(f"mode {self._config.mode.value}")
                continue
            if ended.error is None and ended.name == self._capture.name:
                if self._config.camera.pace is Pace.REALTIME:
                    self._journal.camera(self._config.camera.camera_id, "ended")
                continue
            _log.info("stopping", because=ended.name, error=str(ended.error) if ended.error else None)
            return ended.error

    def _work(self) -> None:
        """Body of the pipeline's thread."""
        fast = self._config.camera.pace is Pace.FAST
        while True:
            if fast:
                self._wait_for_room()
            frame = self._camera.next()
            if frame is None:
                return
            try:
                with self._pulse.beat():
                    self._pipeline.process(frame)
            except ModelError:  # `ModelWatch` has said which
                self._journal.dropped(frame, "model failed")

    def _wait_for_room(self) -> None:
        """Back-pressure where no camera sets the pace: a frame's time begins when there is room for it."""
        self._uplink.wait_until_ready(self._config.deadline_s)
        self._outlets.wait_for_room(self._config.deadline_s)

    def _close_camera(self) -> None:
        """Stop both threads that may read from the source, then let go of it."""
        if isinstance(self._source, ResilientSource):
            self._source.interrupt()
        self._camera.stop()
        returned = [worker.join(JOIN_TIMEOUT_S) for worker in (self._capture, self._worker)]
        if all(returned):
            self._source.close()
        else:  # the driver may be inside a read: to close it now could crash the process
            _log.warning("camera or model does not return", camera=returned[0], pipeline=returned[1])

    def _close_answers(self) -> None:
        """Wait for the cloud within the limit; what it has not answered by then gets the local answer."""
        if self._forwarder:
            self._forwarder.stop_draining(self._config.drain_timeout_s)
        if not self._answers.drain(self._config.drain_timeout_s):
            limit_s = self._config.drain_timeout_s
            _log.warning("answers given up", frames=len(self._answers), drain_timeout_s=limit_s)
        self._uplink.close()
        if self._meter:
            self._meter.close()
        if self._recorder:
            self._recorder.close()
        self._auditor.close()
        self._answers.close("stopped before the cloud answered")
        self._deadlines.join(JOIN_TIMEOUT_S)

    def _close_outlets(self) -> None:
        captured = self.metrics.summary().get("frames_captured", 0)
        self._journal.tell("stopped", boot_id=self._boot_id, captured=captured)
        self._outlets.close(JOIN_TIMEOUT_S)

    def _summarise(self) -> None:
        _log.info("stopped", **self.metrics.summary())

    def _say_ready(self) -> None:
        config = self._config
        self._journal.tell("started", boot_id=self._boot_id, camera_id=config.camera.camera_id)
        _log.info(
            "ready",
            boot_id=self._boot_id,
            mode=config.mode.value,
            model=str(self._model.model_id),
            source=config.camera.source,
            cloud=config.uplink.address if config.mode is not Mode.EDGE_ONLY else None,
        )

    def _build_uplink(self, task: Task) -> Uplink:
        if self._config.mode is Mode.EDGE_ONLY:
            return NoUplink()
        # 15 MB that a daemon without a cloud need not carry.
        from edge.uplink.build import build_wire
        from edge.uplink.client import GrpcUplink

        expects = Classification if task is Task.CLASSIFICATION else Detections
        wire = build_wire(self._config, self._tensors)
        uplink = GrpcUplink(
            self._config.uplink, self._packer, wire, expects, self._journal, self._book, self._meter
        )
        if self._config.uplink.tls and self._config.uplink.tls.certificate:
            self.metrics.watch_certificate(uplink.certificate_days_left)
        return uplink

    def _build_book(self, cuts: Sequence[Cut]) -> PayloadBook:
        observe = self._recorder.note if self._recorder else unobserved
        return build_book(self._config.uplink, cuts, observe, measured_kept(self._config.policy))

    def _build_meter(self) -> ByteMeter | None:
        budget = self._config.policy.budget
        if budget is None or self._config.mode is Mode.EDGE_ONLY:
            return None
        meter = build_meter(budget, self._config.uplink, self._config.device_id)
        self.metrics.watch_budget(lambda: meter.tokens().left_bytes, lambda: meter.charged_bytes)
        return meter

    def _open_source(self) -> Source:
        """The camera; a live one is opened again whenever it is lost, once it could be opened at all."""
        camera = self._config.camera
        source = open_source(camera.source)
        if not source.live:
            return source
        return ResilientSource(
            source,
            lambda: open_source(camera.source),
            lambda state, detail: self._journal.camera(camera.camera_id, state, detail),
            camera.frozen_after_s,
        )

    def _build_tensors(self, task: Task) -> TensorEncoder | None:
        config = self._config.uplink
        if config.oip is None or self._config.mode is Mode.EDGE_ONLY:
            return None
        return TensorEncoder(config, config.oip, task)

    def _build_heads(self) -> dict[str, FeatureEncoder]:
        """The heads; none where pictures are sent, or nothing is."""
        config = self._config.uplink
        if config.split is None or not self._sends_features:
            return {}
        folder, session = find_model_folder(config.split.folder), config.split.session
        return {cut: FeatureEncoder(folder, cut, session, self._trunk) for cut in config.split.cuts}

    def _build_trunk(self) -> SharedTrunk | None:
        """The model as a trunk whose features can be sent, where it is one and features are sent."""
        info = load_exit_info(self._model.folder.path) if self._sends_features else None
        # Every frame under way, the one that is being decided on, and one to spare.
        return SharedTrunk(self._model, info, self._config.uplink.max_in_flight + 2) if info else None

    @property
    def _sends_features(self) -> bool:
        is_picture = self._config.uplink.payload is PayloadKind.PICTURE
        return self._config.mode is not Mode.EDGE_ONLY and not is_picture

    def _build_forwarder(self, config: SpoolConfig | None) -> Forwarder | None:
        if config is None:
            return None
        forwarder = Forwarder(
            config,
            self._packer.pack_to_wait,
            self._uplink,
            self._journal.spooled,
            self._journal.refused,
            self._journal.late,
            self._events.put,
        )
        self.metrics.watch_spool(forwarder.state)
        return forwarder


def _check_ladder(ladder: Sequence[Rung], task: Task) -> None:
    if task is Task.DETECTION and any(rung.square for rung in ladder):
        raise ConfigError("uplink.ladder: square leaves out what a detector has to see")
