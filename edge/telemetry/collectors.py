"""Metrics whose figures others keep: byte budget, spool and the device's health, read on each scrape."""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from spillover.edge.health.readings import Readings
from spillover.edge.health.sensors import CAUSES
from spillover.edge.spool.values import Fate, SpoolState
from spillover.edge.tracking.stage import TrackingCounts

PREFIX = "spillover_edge_"
OF_DEVICE = frozenset(
    f"{PREFIX}{name}" for name in ("oom_kills", "energy_estimate_joules", "disk_written_bytes")
)
"""Counters that others keep, and that do not count what the daemon does."""


@dataclass(frozen=True, slots=True)
class EvidenceState:
    """What there is of evidence at one moment."""

    files: int
    total_bytes: int
    """What they take."""
    deleted: Mapping[str, int]
    """How many made room since the start, by bound: `max_mb`, `keep_days`, `disk`."""
    ring_bytes: int = 0
    """What waits in memory for clips."""


class BudgetCollector(Collector):
    """The byte budget's figures, which the meter keeps."""

    def __init__(self, left_bytes: Callable[[], float], charged_bytes: Callable[[], float]) -> None:
        self._left_bytes = left_bytes
        self._charged_bytes = charged_bytes

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        yield _gauge("budget_left_bytes", "Bytes that may leave now.", self._left_bytes())
        text = "Bytes charged to the budget, headers and connections included."
        yield _counter("budget_charged_bytes", text, self._charged_bytes())


class LiveViewCollector(Collector):
    """Who looks at the live view, and what was too much for them."""

    def __init__(self, viewers: Callable[[], int], dropped: Callable[[], int]) -> None:
        self._viewers = viewers
        self._dropped = dropped

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        text = "Streams of pictures that the live view sends now."
        yield _gauge("live_viewers", text, self._viewers())
        text = "Results and boxes of pictures that a client of the live view was too slow for."
        yield _counter("live_dropped", text, self._dropped())


class EvidenceCollector(Collector):
    """What the folder of evidence has, and what has gone from it."""

    def __init__(self, state: Callable[[], EvidenceState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        state = self._state()
        yield _gauge("evidence_files", "Pictures and clips in the folder.", state.files)
        yield _gauge("evidence_bytes", "Their bytes.", state.total_bytes)
        text = "Pictures of the last seconds, for clips, in memory."
        yield _gauge("evidence_ring_bytes", text, state.ring_bytes)
        text = "Pictures and clips that made room, by the bound that wanted it."
        yield _counters("evidence_deleted", text, "bound", state.deleted)


class TrackingCollector(Collector):
    """What the trackers of all cameras have done; a device that tracks nothing has no series."""

    def __init__(self, counts: Callable[[], Iterable[TrackingCounts | None]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        found = [one for one in self._counts() if one is not None]
        if not found:
            return
        text = "Tracked objects that the newest results show."
        yield _gauge("tracks", text, sum(one.shown for one in found))
        text = (
            "Scenes that ended because the picture shared nothing with the one before, or had another size."
        )
        yield _counter("cuts", text, sum(one.cuts for one in found))
        total: Counter[str] = Counter()
        for one in found:
            total.update(one.dropped)
        text = "Boxes, frames and cloud answers that could not be tracked."
        yield _counters("tracking_dropped", text, "reason", dict(sorted(total.items())))


class SceneCollector(Collector):
    """What the scenes before the cameras ask for: by camera, frames a second and frames not looked at."""

    def __init__(self, cameras: Callable[[], Iterable[tuple[str, float | None, int]]]) -> None:
        self._cameras = cameras

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        cameras = list(self._cameras())
        text = "Frames a second that the scene asks for, where camera.fps has min and max."
        yield _gauges("source_scene_fps", text, "camera", {name: per_s for name, per_s, _ in cameras})
        text = "Frames that the model did not look at, since nothing had changed."
        yield _counters("source_frames_reused", text, "camera", {name: count for name, _, count in cameras})


class SpoolCollector(Collector):
    """The spool's counters, all of one moment: `state` is read once per scrape, so the sums always match.

    `recovered` plus the fate `accepted` is the sum of the other fates plus `pending`.
    """

    def __init__(self, state: Callable[[], SpoolState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        state = self._state()
        text = "Frames accepted by the disk, and how they ended."
        yield _counters(
            "spool_frames", text, "fate", {fate.value: getattr(state, fate.value) for fate in Fate}
        )
        yield _counter("spool_syncs", "Commits to the disk.", state.syncs)
        yield _gauge("spool_recovered", "Frames found on the disk at the start.", state.recovered)
        yield _gauge("spool_pending", "Frames on the disk.", state.pending)
        yield _gauge("spool_bytes", "Bytes of the file in use.", state.pending_bytes)
        yield _gauge("spool_oldest_age_seconds", "Age of the oldest frame on the disk.", state.oldest_age_s)
        yield _gauge("spool_failing", "1 while the disk cannot be used.", float(bool(state.error)))


class HealthCollector(Collector):
    """The device's health; what this machine does not tell has no series."""

    def __init__(self, latest: Callable[[], Readings], step: Callable[[], int] | None = None) -> None:
        self._latest = latest
        self._step = step

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the last few seconds."""
        found = self._latest()
        yield _gauge("temperature_celsius", "The hottest sensor of the processor.", found.temperature_celsius)
        yield _gauge(
            "cpu_busy_ratio", "Share of all cores that was busy since the reading before.", found.cpu_share
        )
        yield _gauge("load1", "Load average of the last minute.", found.load)
        text = "What programs can still have without swapping."
        yield _gauge("memory_available_bytes", text, found.memory_available_bytes)
        text = "The tightest memory limit of the control groups that this process is in."
        yield _gauge("memory_limit_bytes", text, found.memory_limit_bytes)
        text = "What of that limit is taken for good."
        yield _gauge("memory_limit_used_bytes", text, found.memory_limit_used_bytes)
        text = "Processes of this control group that the kernel has ended for want of memory."
        yield _counter("oom_kills", text, found.oom_kills)
        text = "Share of the last 10 s in which something waited for it (PSI)."
        pressure = {"cpu": found.cpu_pressure, "memory": found.memory_pressure, "io": found.io_pressure}
        yield _gauges("pressure_ratio", text, "resource", pressure)
        yield _gauge("fan_rpm", "Turns a minute of the fastest fan.", found.fan_rpm)
        yield _gauge("supply_volts", "Voltage of the power supply.", found.supply_volts)
        text = "1 while the voltage of the power supply is too low."
        yield _gauge("under_voltage", text, found.under_voltage)
        text = "Power by `health.power` and the share of busy cores: an estimate."
        yield _gauge("power_estimate_watts", text, found.power_estimate_watts)
        text = "That power added up: an estimate."
        yield _counter("energy_estimate_joules", text, found.energy_estimate_joules)
        text = "Where the device stands on the ladder: 0 it does everything, 6 it pauses."
        yield _gauge("ladder_step", text, self._step() if self._step else None)
        yield from self._throttling(found)
        text = "Memory of this process: its own (anon), and pages of files, libraries mostly (file)."
        resident = {"anon": found.process_anon_bytes, "file": found.process_file_bytes}
        yield _gauges("resident_bytes", text, "kind", resident)
        text = "What this daemon may still write to the file systems of its folders."
        yield _gauges("disk_free_bytes", text, "folder", {one.folder: one.free_bytes for one in found.disks})
        text = "Bytes written since boot, by card, stick or drive."
        yield _counters("disk_written_bytes", text, "device", found.disk_written_bytes)

    def _throttling(self, found: Readings) -> Iterator[Metric]:
        state = found.throttling
        text = "1 while the firmware holds back for this cause (Raspberry Pi)."
        yield _gauges("held_back", text, "cause", _ones(state.now) if state else {})
        text = (
            "1 if the firmware has held back for this cause since the device was switched on (Raspberry Pi)."
        )
        yield _gauges("held_back_since_boot", text, "cause", _ones(state.since_boot) if state else {})


def _ones(causes: Container[str]) -> dict[str, float]:
    """1 for each cause that is among these, 0 for the others."""
    return {cause: float(cause in causes) for cause in CAUSES}


def _gauge(name: str, text: str, value: float | None) -> Metric:
    """A figure; what is not known has no series."""
    family = GaugeMetricFamily(PREFIX + name, text)
    if value is not None:
        family.add_metric([], value)
    return family


def _counter(name: str, text: str, value: float | None) -> Metric:
    """A count, likewise."""
    family = CounterMetricFamily(PREFIX + name, text)
    if value is not None:
        family.add_metric([], value)
    return family


def _gauges(name: str, text: str, label: str, values: Mapping[str, float | None]) -> Metric:
    """Figures by the value of a label, likewise."""
    family = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for key, value in values.items():
        if value is not None:
            family.add_metric([key], value)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Counts by the value of a label."""
    family = CounterMetricFamily(PREFIX + name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
