"""The daemon: its parts are started in order, and stopped in the reverse of it."""

import os
import secrets
import time
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue

import cv2

from spillover.common.errors import ModelError, SpilloverError
from spillover.common.log import get_logger
from spillover.common.net.http import metrics_endpoint
from spillover.edge.assembly.daemon import assemble
from spillover.edge.camera.reconnecting import ResilientSource
from spillover.edge.camera.source import CameraState
from spillover.edge.camera.video import quiet_opencv
from spillover.edge.config import EdgeConfig, Mode, Pace
from spillover.edge.device import Run
from spillover.edge.results.delivery import EventKind
from spillover.edge.runtime.memory import release_free_memory
from spillover.edge.runtime.stall import StallDetector
from spillover.edge.runtime.systemd import Notifier
from spillover.edge.runtime.worker import Ended, Worker
from spillover.edge.telemetry.metrics import Metrics

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
        self._notifier = Notifier(os.environ)
        self._stall = StallDetector(time.monotonic)
        run = Run(config, self._boot_id, self._events.put, record_link)
        self._device, self._stream = assemble(run)
        self._deadlines = Worker("deadlines", self._device.deadlines.run, self._events.put)
        self._worker = Worker("pipeline", self._work, self._events.put)
        self._capture = Worker("camera", self._stream.camera.run, self._events.put)

    @property
    def metrics(self) -> Metrics:
        """What was counted so far."""
        return self._device.reporting.metrics

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
            stack.enter_context(
                metrics_endpoint(self._config.metrics_address, self.metrics.registry, key="metrics_address")
            )
            self._device.reporting.outlets.start()
            stack.callback(self._close_outlets)
            if forwarder := self._device.offload.forwarder:
                forwarder.start()
                stack.callback(forwarder.close, JOIN_TIMEOUT_S)
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
        if self._device.predictor.never_answered:
            raise ModelError("the model failed on every frame: the log says why")
        if empty := self._device.reporting.outlets.lost_everything:
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
                if watchdog_s and not self._stall.hangs(watchdog_s):
                    self._notifier.alive(f"mode {self._config.mode.value}")
                continue
            if ended.error is None and ended.name == self._capture.name:
                if self._config.camera.pace is Pace.REALTIME:
                    self._device.reporting.events.camera(self._config.camera.camera_id, CameraState.ENDED)
                continue
            _log.info("stopping", because=ended.name, error=str(ended.error) if ended.error else None)
            return ended.error

    def _work(self) -> None:
        """Body of the pipeline's thread."""
        fast = self._config.camera.pace is Pace.FAST
        while True:
            if fast:
                self._wait_for_room()
            frame = self._stream.camera.next()
            if frame is None:
                return
            try:
                with self._stall.working():
                    self._stream.pipeline.process(frame)
            except ModelError:  # `GuardedPredictor` has said which
                self._device.reporting.events.dropped(frame, "model failed")

    def _wait_for_room(self) -> None:
        """Back-pressure where no camera sets the pace: a frame's time begins when there is room for it."""
        self._device.offload.uplink.wait_until_ready(self._config.deadline_s)
        self._device.reporting.outlets.wait_for_room(self._config.deadline_s)

    def _close_camera(self) -> None:
        """Stop both threads that may read from the source, then let go of it."""
        if isinstance(self._stream.source, ResilientSource):
            self._stream.source.interrupt()
        self._stream.camera.stop()
        returned = [worker.join(JOIN_TIMEOUT_S) for worker in (self._capture, self._worker)]
        if all(returned):
            self._stream.source.close()
        else:  # the driver may be inside a read: to close it now could crash the process
            _log.warning("camera or model does not return", camera=returned[0], pipeline=returned[1])

    def _close_answers(self) -> None:
        """Wait for the cloud within the limit; what it has not answered by then gets the local answer."""
        if forwarder := self._device.offload.forwarder:
            forwarder.stop_draining(self._config.drain_timeout_s)
        if not self._device.deadlines.drain(self._config.drain_timeout_s):
            limit_s = self._config.drain_timeout_s
            _log.warning("answers given up", frames=len(self._device.deadlines), drain_timeout_s=limit_s)
        self._device.offload.stop(time.monotonic() + 5.0)
        self._device.auditor.close()
        self._device.deadlines.close("stopped before the cloud answered")
        self._deadlines.join(JOIN_TIMEOUT_S)

    def _close_outlets(self) -> None:
        captured = self.metrics.summary().get("frames_captured", 0)
        self._device.reporting.events.emit(EventKind.STOPPED, boot_id=self._boot_id, captured=captured)
        self._device.reporting.outlets.close(JOIN_TIMEOUT_S)

    def _summarise(self) -> None:
        _log.info("stopped", **self.metrics.summary())

    def _say_ready(self) -> None:
        config = self._config
        self._device.reporting.events.emit(
            EventKind.STARTED, boot_id=self._boot_id, camera_id=config.camera.camera_id
        )
        _log.info(
            "ready",
            boot_id=self._boot_id,
            mode=config.mode.value,
            model=str(self._device.predictor.model_id),
            source=config.camera.source,
            cloud=config.uplink.address if config.mode is not Mode.EDGE_ONLY else None,
        )
