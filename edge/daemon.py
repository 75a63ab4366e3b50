"""The daemon: starts its parts in order and stops them in reverse order, within one time limit."""

import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from queue import Empty, SimpleQueue

import cv2
from prometheus_client import make_wsgi_app

from spillover.common.errors import ModelError, SourceError, SpilloverError
from spillover.common.log import get_logger
from spillover.common.net.addresses import without_password
from spillover.common.net.http import HttpServer, ServerContext
from spillover.common.systemd import Notifier
from spillover.edge.assembly.daemon import assemble
from spillover.edge.assembly.evidence import build_evidence
from spillover.edge.assembly.health import BuildHealth, build_health
from spillover.edge.assembly.reload import Takeover
from spillover.edge.camera.source import CameraState
from spillover.edge.camera.video import quiet_opencv
from spillover.edge.config import EdgeConfig, Mode, Pace
from spillover.edge.device import Device, Run
from spillover.edge.frame_loop import LOOK_UP_S, FrameLoop
from spillover.edge.inference.multi_view import build_multi_view
from spillover.edge.inference.predictor import Predictor
from spillover.edge.reloads import Read, Reloads
from spillover.edge.results.delivery import EventKind
from spillover.edge.runtime.memory import release_memory_of_the_start
from spillover.edge.runtime.parts import Ended, EndedBy, Part, Worker, stop_parts
from spillover.edge.runtime.process import EXIT_LIMIT_S
from spillover.edge.status.build import StatusSource
from spillover.edge.status.serve import STUCK_S, livez, readyz, status_page, status_server
from spillover.edge.status.values import PAGE
from spillover.edge.stream import CameraStream
from spillover.edge.telemetry.metrics import Metrics
from spillover.edge.web.gate import Sees, open_gate
from spillover.edge.web.live_view import LiveView

_log = get_logger("edge")

Assemble = Callable[[Run], tuple[Device, Sequence[CameraStream]]]


def _nothing() -> None:
    """Does nothing when the stop begins."""


class Daemon:
    """One edge: `run` it once. `stop` and `reload` may be called from any thread or signal handler.

    `config_path` is where `config` was read from, for the status. With `require_camera` a live camera that is
    not there is an error; otherwise it is waited for. `read` gives the configuration anew, for `reload`;
    without it that of the start. `build` makes the parts, and `watch` what looks after the device. `ended_by`
    waits for the stop of one part, by default until its deadline.

    Raises:
        ConfigError: a value does not fit the model, or a sink cannot be opened.
        ModelError: the model folder is damaged.
        SourceError: a file cannot be opened as camera, or a live one that is required.
    """

    def __init__(
        self,
        config: EdgeConfig,
        record_link: Path | None = None,
        *,
        config_path: Path | None = None,
        require_camera: bool = False,
        read: Read | None = None,
        build: Assemble = assemble,
        watch: BuildHealth = build_health,
        ended_by: EndedBy = Worker.ended_by,
    ) -> None:
        quiet_opencv()
        # One thread for pixels: OpenCV's pool would compete with ONNX Runtime's for the same few cores.
        cv2.setNumThreads(1)
        self._boot_id = secrets.token_hex(6)
        # SimpleQueue, because a signal handler may interrupt its own thread inside `put` or `get`.
        self._events: SimpleQueue[Ended] = SimpleQueue()
        self._notifier = Notifier(os.environ)
        self._ended_by = ended_by
        run = Run(config, self._boot_id, self._events.put, record_link, require_camera)
        self._device, self._streams = build(run)
        takeover = Takeover(config, self._device, self._streams)
        self.health = watch(run, self._device, self._streams, takeover.use)
        """What looks after the device."""
        self._reloads = Reloads(
            config,
            read or (lambda: nullcontext(config)),
            takeover,
            self._events.put,
            self._notifier,
            self._in_one_line,
        )
        self._deadlines = Worker("deadlines", self._device.deadlines.run, self._events.put)
        self._frames = FrameLoop(
            self._device,
            self._streams,
            lambda: self._config.deadline_s,
            self._events.put,
            fast=config.all_cameras[0].pace is Pace.FAST,
        )
        self._captures = [
            Worker(_capture_name(stream, self._streams), stream.camera.run, self._events.put)
            for stream in self._streams
        ]
        self.status = StatusSource(
            config=config,
            config_path=str(config_path.resolve()) if config_path else "",
            boot_id=self._boot_id,
            device=self._device,
            streams=list(zip(config.all_cameras, self._streams, strict=True)),
            health=self.health.monitor,
            started_s=time.monotonic(),
            keeper=self.health.keeper,
        )
        """What `spillover edge status` shows."""
        self._evidence = build_evidence(config, self._device, self._streams, self._events.put)
        self._gate = open_gate(config.security, self.metrics.page_refused)
        self._tls = None
        if tls := config.security.tls:
            self._tls = ServerContext(tls.certificate, tls.key, "security.tls")
        self.live_view = self._build_live_view() if config.live_view else None
        keeper = self.health.keeper
        self.metrics.watch_health(
            self.health.monitor.latest, (lambda: keeper.state().step) if keeper else None
        )
        self.metrics.watch_tracking(lambda: [stream.pipeline.tracking for stream in self._streams])
        self.metrics.watch_scenes(
            lambda: [(one.camera_id, one.camera.scene_fps, one.pipeline.reused) for one in self._streams]
        )
        self.left_behind: list[str] = []
        """After `run`: the parts that did not end in time. Only the end of the process ends them."""

    @property
    def _config(self) -> EdgeConfig:
        return self._reloads.config

    @property
    def metrics(self) -> Metrics:
        """The counters since the daemon was built."""
        return self._device.reporting.metrics

    def stop(self, reason: str) -> None:
        """Ask `run` to end: what is under way is finished or given up within `stop_timeout_s`."""
        self._events.put(Ended(reason))

    def reload(self) -> None:
        """Ask `run` to read the configuration again; it goes on with what it has where that has a fault."""
        self._reloads.ask()

    def run(self, on_stopping: Callable[[], None] = _nothing) -> None:
        """Work until the source ends, `stop` is called, or a part fails; its error is raised at the end.

        `on_stopping` is called when the stop begins. Raises SpilloverError, too, when a sink has not one
        result, or the model failed on every frame.
        """
        release_memory_of_the_start()
        started: list[Part] = []
        try:
            for part in self._in_order():
                part.start()
                started.append(part)
            self._say_ready()
            error = self._wait_for_end()
            limit_s = self._config.stop_timeout_s + 2 * EXIT_LIMIT_S
            self._notifier.stopping(str(error) if error else "asked to", limit_s)
        finally:
            on_stopping()
            self._frames.stop()
            self.left_behind = stop_parts(started, self._config.stop_timeout_s, self._ended_by)
        if error is not None:
            raise error
        if self._device.predictor.never_answered:
            raise ModelError("the model failed on every frame: the log says why")
        if empty := self._device.reporting.outlets.lost_everything:
            raise SpilloverError(f"not one result reached {', '.join(empty)}: the log says why")

    def _build_live_view(self) -> LiveView:
        model = self._device.model
        live_view = LiveView(
            self._streams, model.folder.labels, self._shared_predictor, self.status, self._gate
        )
        live_view.watch(self._device.reporting.events)
        hub = live_view.hub
        self.metrics.watch_live_view(lambda: hub.viewers, lambda: hub.results_dropped)
        if keeper := self.health.keeper:
            keeper.relieve(lambda step, _, why: live_view.pause(why) if step.spares else live_view.resume())
        return live_view

    def _shared_predictor(self) -> Predictor:
        """What answers frames now, for other threads than the pipeline's."""
        device = self._device
        model = device.model_of(device.predictor.variant)
        return build_multi_view(self._config.model.multi_view, model, model.folder.task)

    def _in_order(self) -> list[Part]:
        """The parts in the order of their start, and by which share of the stop's time each must have ended.

        What makes frames ends first, and in time for what keeps them: at least 15 % of the time are left to
        the spool's last commit, 11 % to the sinks. Opening a camera may take 10 s, which at the usual 20 s
        is awaited.
        """
        address, forwarder = self._config.metrics_address, self._device.offload.forwarder
        evidence, concluder = self._evidence, self._frames.concluder
        page = status_page(self.status)
        live_view = self.live_view
        numbers = {"/metrics": make_wsgi_app(self.metrics.registry), PAGE: page}
        pages = {path: self._gate.guarded(app, Sees.NUMBERS) for path, app in numbers.items()}
        probes = {"/livez": livez(lambda: self._frames.hangs(STUCK_S)), "/readyz": readyz(self.status)}
        metrics = None
        if address:
            metrics = HttpServer(
                address,
                pages | dict(live_view.routes if live_view else {}),
                key="metrics_address",
                open_routes=probes | dict(live_view.open_routes if live_view else {}),
                context=self._tls or (lambda: None),
            )
        status = status_server(self._config.device_id, page)
        parts = [
            Part("summary", 1.0, self._summarise),
            Part("metrics", 0.99, metrics.stop, metrics.start) if metrics else None,
            Part("live view", 0.99, live_view.stop) if live_view else None,
            Part("status", 0.98, status.stop, status.start) if status else None,
            Part("sinks", 0.96, self._stop_outlets, self._device.reporting.outlets.start),
            Part("evidence", 0.9, evidence.stop, evidence.start) if evidence else None,
            Part("spool", 0.85, forwarder.stop, forwarder.start) if forwarder else None,
            Part("deadlines", 0.7, self._stop_deadlines, self._deadlines.start),
            Part("uplink", 0.68, self._device.offload.stop),
            Part("answers", 0.65, self._give_up_answers),
            Part("source", 0.6, self._close_sources),
            Part("decisions", 0.58, self._frames.stop_concluding, concluder.start) if concluder else None,
            Part("pipeline", 0.57, self._frames.looker.ended_by, self._frames.looker.start),
            Part("health", 0.54, self.health.stop, self.health.start),
            Part("camera", 0.52, self._stop_cameras, self._start_cameras),
        ]
        return [part for part in parts if part is not None]

    def _wait_for_end(self) -> Exception | None:
        """Sleep until there is a reason to end; meanwhile feed systemd's watchdog.

        That a camera is through, or that its file is damaged, is one only when all of them are, and the
        pipeline too; the first such error is then returned.
        """
        running = {worker.name for worker in (*self._frames.workers, *self._captures)}
        failed: Exception | None = None
        # A signal that comes just before the wait begins does not end it: Python runs its handler only when
        # this thread runs again. So no wait is long.
        watchdog_s = self._notifier.watchdog_s
        period_s = min(LOOK_UP_S, watchdog_s / 3) if watchdog_s else LOOK_UP_S
        while True:
            self._device.reporting.events.frame_clock.look()
            try:
                ended = self._events.get(timeout=period_s)
            except Empty:
                if watchdog_s and not self._frames.hangs(watchdog_s):
                    self._notifier.alive(self._in_one_line())
                continue
            if self._reloads.takes(ended):
                continue
            error = ended.error
            if ended.name in running and (error is None or isinstance(error, SourceError)):
                running.discard(ended.name)
                failed = failed or error
                if running:
                    continue
                error = failed
            _log.info("stopping", because=ended.name, error=str(error) if error else None)
            return error

    def _in_one_line(self) -> str:
        """What systemd shows of the daemon."""
        names = [stream.camera_id for stream in self._streams]
        states = [(name, self._device.reporting.events.camera_is(name)) for name in names]
        not_ok = [f"{name} {now.state}" for name, now in states if now and now.state != CameraState.OK.value]
        note = [self._reloads.note] if self._reloads.note else []
        return ", ".join([f"mode {self._config.mode.value}", *not_ok, *note])

    def _start_cameras(self) -> None:
        for capture in self._captures:
            capture.start()

    def _stop_cameras(self, deadline_s: float) -> bool:
        """Capture no more; the frame in the pipeline is the last."""
        for stream in self._streams:
            stream.stop()
        ended = [capture.ended_by(deadline_s) for capture in self._captures]  # each says where it hangs
        return all(ended)

    def _close_sources(self, _deadline_s: float) -> bool:
        """Let go of the cameras, but of none whose driver is inside a read: to close it then could crash."""
        for stream, capture in zip(self._streams, self._captures, strict=True):
            if not (capture.runs or self._frames.looker.runs):
                stream.source.close()
        return True

    def _give_up_answers(self, deadline_s: float) -> bool:
        """Wait for the cloud until the deadline; what it has not answered gets the local answer next."""
        if not self._device.deadlines.drain(max(0.0, deadline_s - time.monotonic())):
            _log.warning("answers given up", frames=len(self._device.deadlines))
        if forwarder := self._device.offload.forwarder:
            forwarder.finish_delivery(deadline_s)
        return True

    def _stop_deadlines(self, deadline_s: float) -> bool:
        self._device.auditor.close()
        self._device.deadlines.close("stopped before the cloud answered")
        return self._deadlines.ended_by(deadline_s)

    def _stop_outlets(self, deadline_s: float) -> bool:
        captured = self.metrics.frames_captured
        self._device.reporting.events.emit(EventKind.STOPPED, boot_id=self._boot_id, captured=captured)
        return self._device.reporting.outlets.stop(deadline_s)

    def _summarise(self, _deadline_s: float) -> bool:
        _log.info("stopped", **self.metrics.summary())
        return True

    def _say_ready(self) -> None:
        config = self._config
        cameras = {one.camera_id: without_password(one.source) for one in config.all_cameras}
        names = ",".join(cameras)
        self._device.reporting.events.emit(EventKind.STARTED, boot_id=self._boot_id, cameras=names)
        for stream in self._streams:
            if events := stream.pipeline.settings.events:
                events.start()
        _log.info(
            "ready",
            boot_id=self._boot_id,
            mode=config.mode.value,
            model=str(self._device.predictor.model_id),
            cameras=cameras,
            cloud=config.uplink.address if config.mode is not Mode.EDGE_ONLY else None,
        )
        self._notifier.ready(self._in_one_line())


def _capture_name(stream: CameraStream, streams: Sequence[CameraStream]) -> str:
    return "camera" if len(streams) == 1 else f"camera {stream.camera_id}"
