"""Takes a changed configuration over into a running daemon: between two frames, and all of it or nothing."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from spillover.edge.assembly.camera import for_camera, settings_for, sharing, variant_settings
from spillover.edge.assembly.device import sink_builder
from spillover.edge.assembly.events import build_events
from spillover.edge.assembly.offload import reported_of_answers
from spillover.edge.assembly.policy import EXPECTED_GAIN, report_threshold
from spillover.edge.assembly.variants import policies_for, with_variant
from spillover.edge.camera.reconnecting import ResilientSource
from spillover.edge.config import CameraConfig, EdgeConfig
from spillover.edge.device import Device
from spillover.edge.events.values import Rules
from spillover.edge.inference.temporal import LastAnswerCorrector
from spillover.edge.pipeline import CameraSettings
from spillover.edge.policy.chain import Policy
from spillover.edge.stream import CameraStream
from spillover.edge.tracking.tracker import Tracker


class Takeover:
    """Gives the parts of a running daemon what has changed, and has another model answer. Thread-safe.

    `config` is what they were built from.
    """

    def __init__(self, config: EdgeConfig, device: Device, streams: Sequence[CameraStream]) -> None:
        self._config = config
        self._device = device
        self._streams = streams
        self._lock = threading.Lock()
        self._policies = device.policies
        """By model: that of cameras which have none of their own."""
        self._variant = 0
        self._trackers: dict[str, Tracker] = {}
        """Those that have run: one that comes back goes on, so that no number is given twice."""

    def __call__(self, before: EdgeConfig, wanted: EdgeConfig) -> bool:
        """Go on with `wanted`, which differs from `before` in keys alone that a running daemon follows.

        Sinks open their files anew, changed or not. Frames under way end as they began: each meets either
        configuration whole.

        Returns:
            False when it was too late, because the stop has begun.

        Raises:
            ConfigError: a value does not fit the model, or a file cannot be read or opened. Nothing has
                changed.
        """
        with self._lock:
            return self._take_over(before, wanted)

    def use(self, variant: int) -> None:
        """Have that model answer from the next frame on, or the smallest there is; 0: the model itself."""
        with self._lock:
            self._variant = min(variant, len(self._device.variants))
            self._use_variant()

    def _take_over(self, before: EdgeConfig, wanted: EdgeConfig) -> bool:
        device, model = self._device, self._device.model
        policies = policies_for(wanted, (model, *device.variants))
        if _decide_alike(before, wanted):
            policies = self._policies  # they know how frames rank
        cameras = list(zip(self._streams, before.all_cameras, wanted.all_cameras, strict=True))
        settings = [
            self._settings(stream.pipeline.choices[0], (before, old), (wanted, new), policies[0])
            for stream, old, new in cameras
        ]
        variants = [variant_settings(wanted, new, device, policies) for _, _, new in cameras]
        with ExitStack() as opened:
            builder = sink_builder(model, device.reporting.metrics)
            if not builder.prepare(device.reporting.outlets, before, wanted, opened)():
                return False
            opened.pop_all()
        self._policies, self._config = policies, wanted
        for (stream, _, camera), chosen, smaller in zip(cameras, settings, variants, strict=True):
            settled = _with_events(stream, self._with_tracker(stream, chosen))
            _reconfigure(stream, camera, settled, *(sharing(settled, one) for one in smaller))
        self._use_variant()
        return True

    def _use_variant(self) -> None:
        """Give everything that depends on the model what belongs to the one that answers."""
        device, variant = self._device, self._variant
        model, config = device.model_of(variant), with_variant(self._config, variant)
        for stream in self._streams:
            stream.pipeline.use(variant)
            settings = stream.pipeline.in_use
            if isinstance(settings.temporal, Tracker):
                settings.temporal.reconfigure(settings.temporal.settings[0], settings.report.least)
        device.offload.uplink.report(reported_of_answers(config, model))
        device.offload.uplink.trace(config.trace_share)
        device.auditor.reconfigure(
            config.policy.agree_from, report_threshold(config, model), config.policy.max_error
        )
        device.reporting.metrics.model(model.manifest)

    def _with_tracker(self, stream: CameraStream, chosen: CameraSettings) -> CameraSettings:
        """The settings with the camera's tracker, which goes on with what they say of it."""
        running = stream.pipeline.settings.temporal
        if isinstance(running, Tracker):
            self._trackers[stream.camera_id] = running
        tracker = self._trackers.get(stream.camera_id)
        if tracker is None or not isinstance(chosen.temporal, Tracker):
            return chosen
        tracker.reconfigure(*chosen.temporal.settings)
        return replace(chosen, temporal=tracker)

    def _settings(
        self,
        running: CameraSettings,
        before: tuple[EdgeConfig, CameraConfig],
        wanted: tuple[EdgeConfig, CameraConfig],
        policy: Policy,
    ) -> CameraSettings:
        """What one camera's pipeline goes on with; what has learned something stays where nothing changed."""
        (old, old_camera), (new, new_camera) = before, wanted
        model = self._device.model
        settings = settings_for(new, new_camera, model, policy)
        told = build_events(new, new_camera, model, self._device.reporting.events.happened)
        settings = replace(settings, events=told)
        if old.temporal == new.temporal and isinstance(settings.temporal, LastAnswerCorrector):
            settings = replace(settings, temporal=running.temporal)
        own = new_camera.policy is not None and old_camera.policy is not None
        if own and _decide_alike(for_camera(old, old_camera), for_camera(new, new_camera)):
            settings = replace(settings, policy=running.policy)
        return settings


def _with_events(stream: CameraStream, chosen: CameraSettings) -> CameraSettings:
    """The settings with what has told the camera's events so far, which goes on by their rules."""
    running, told = stream.pipeline.settings.events, chosen.events
    if running is None:
        if told is not None:
            told.start()
        return chosen
    running.reconfigure(told.rules if told else Rules())
    return replace(chosen, events=running if told else None)


def _reconfigure(
    stream: CameraStream, camera: CameraConfig, settings: CameraSettings, *variants: CameraSettings
) -> None:
    stream.pipeline.reconfigure(settings, *variants)
    stream.camera.reconfigure(camera)
    if isinstance(stream.source, ResilientSource):
        stream.source.reconfigure(camera.frozen_after_s)


def _decide_alike(before: EdgeConfig, wanted: EdgeConfig) -> bool:
    """Whether nothing has changed that a policy is built from; a gain file may have."""
    keys = ("policy", "temporal", "model")
    same = all(getattr(before, key) == getattr(wanted, key) for key in keys)
    return same and wanted.policy.kind != EXPECTED_GAIN
