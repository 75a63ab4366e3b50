"""Metrics whose figures others keep: byte budget, spool and the device's health, read on each scrape."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

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


class EvidenceState(Protocol):
    """What there is of evidence at one moment."""

    @property
    def files(self) -> int:
        """How many there are."""
        ...

    @property
    def total_bytes(self) -> int:
        """What they take."""
        ...

    @property
    def ring_bytes(self) -> int:
        """What waits in memory for clips."""
        ...

    @property
    def deleted(self) -> Mapping[str, int]:
        """How many made room since the start, by bound."""
        ...


class BudgetCollector(Collector):
    """The byte budget's figures, which the meter keeps."""

    def __init__(self, left_bytes: Callable[[], float], charged_bytes: Callable[[], float]) -> None:
        self._left_bytes = left_bytes
        self._charged_bytes = charged_bytes

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        text = "Bytes that may leave now."
        yield GaugeMetricFamily(f"{PREFIX}budget_left_bytes", text, value=self._left_bytes())
        text = "Bytes charged to the budget, headers and connections included."
        yield CounterMetricFamily(f"{PREFIX}budget_charged_bytes", text, value=self._charged_bytes())


class LiveViewCollector(Collector):
    """Who looks at the live view, and what was too much for them."""

    def __init__(self, viewers: Callable[[], int], dropped: Callable[[], int]) -> None:
        self._viewers = viewers
        self._dropped = dropped

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        text = "Streams of pictures that the live view sends now."
        yield GaugeMetricFamily(f"{PREFIX}live_viewers", text, value=self._viewers())
        text = "Results and boxes of pictures that a client of the live view was too slow for."
        yield CounterMetricFamily(f"{PREFIX}live_dropped", text, value=self._dropped())


class EvidenceCollector(Collector):
    """What the folder of evidence has, and what has gone from it."""

    def __init__(self, state: Callable[[], EvidenceState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        state = self._state()
        text = "Pictures and clips in the folder."
        yield GaugeMetricFamily(f"{PREFIX}evidence_files", text, value=state.files)
        yield GaugeMetricFamily(f"{PREFIX}evidence_bytes", "Their bytes.", value=state.total_bytes)
        text = "Pictures of the last seconds, for clips, in memory."
        yield GaugeMetricFamily(f"{PREFIX}evidence_ring_bytes", text, value=state.ring_bytes)
        text = "Pictures and clips that made room, by the bound that wanted it."
        deleted = CounterMetricFamily(f"{PREFIX}evidence_deleted", text, labels=["bound"])
        for bound, count in state.deleted.items():
            deleted.add_metric([bound], count)
        yield deleted


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
        yield GaugeMetricFamily(f"{PREFIX}tracks", text, value=sum(one.shown for one in found))
        text = (
            "Scenes that ended because the picture shared nothing with the one before, or had another size."
        )
        yield CounterMetricFamily(f"{PREFIX}cuts", text, value=sum(one.cuts for one in found))
        text = "Boxes, frames and cloud answers that could not be tracked."
        dropped = CounterMetricFamily(f"{PREFIX}tracking_dropped", text, labels=["reason"])
        total: Counter[str] = Counter()
        for one in found:
            total.update(one.dropped)
        for reason, count in sorted(total.items()):
            dropped.add_metric([reason], count)
        yield dropped


class SceneCollector(Collector):
    """What the scenes before the cameras ask for: by camera, frames a second and frames not looked at."""

    def __init__(self, cameras: Callable[[], Iterable[tuple[str, float | None, int]]]) -> None:
        self._cameras = cameras

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        text = "Frames a second that the scene asks for, where camera.fps has min and max."
        rate = GaugeMetricFamily(f"{PREFIX}source_scene_fps", text, labels=["camera"])
        text = "Frames that the model did not look at, since nothing had changed."
        reused = CounterMetricFamily(f"{PREFIX}source_frames_reused", text, labels=["camera"])
        for camera_id, per_s, count in self._cameras():
            if per_s is not None:
                rate.add_metric([camera_id], per_s)
            reused.add_metric([camera_id], count)
        yield rate
        yield reused


class SpoolCollector(Collector):
    """The spool's counters, all of one moment: `state` is read once per scrape, so the sums always match.

    `recovered` plus the fate `accepted` is the sum of the other fates plus `pending`.
    """

    def __init__(self, state: Callable[[], SpoolState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        state = self._state()
        prefix = f"{PREFIX}spool_"
        text = "Frames accepted by the disk, and how they ended."
        fates = CounterMetricFamily(f"{prefix}frames", text, labels=["fate"])
        for fate in Fate:
            fates.add_metric([fate.value], getattr(state, fate.value))
        yield fates
        yield CounterMetricFamily(f"{prefix}syncs", "Commits to the disk.", value=state.syncs)
        text = "Frames found on the disk at the start."
        yield GaugeMetricFamily(f"{prefix}recovered", text, value=state.recovered)
        yield GaugeMetricFamily(f"{prefix}pending", "Frames on the disk.", value=state.pending)
        yield GaugeMetricFamily(f"{prefix}bytes", "Bytes of the file in use.", value=state.pending_bytes)
        text = "Age of the oldest frame on the disk."
        yield GaugeMetricFamily(f"{prefix}oldest_age_seconds", text, value=state.oldest_age_s)
        failing = float(bool(state.error))
        yield GaugeMetricFamily(f"{prefix}failing", "1 while the disk cannot be used.", value=failing)


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
        pressure = GaugeMetricFamily(f"{PREFIX}pressure_ratio", text, labels=["resource"])
        for resource in ("cpu", "memory", "io"):
            if (share := getattr(found, f"{resource}_pressure")) is not None:
                pressure.add_metric([resource], share)
        yield pressure
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
        resident = GaugeMetricFamily(f"{PREFIX}resident_bytes", text, labels=["kind"])
        for kind, value in (("anon", found.process_anon_bytes), ("file", found.process_file_bytes)):
            if value is not None:
                resident.add_metric([kind], value)
        yield resident
        text = "What this daemon may still write to the file systems of its folders."
        free = GaugeMetricFamily(f"{PREFIX}disk_free_bytes", text, labels=["folder"])
        for disk in found.disks:
            free.add_metric([disk.folder], disk.free_bytes)
        yield free
        text = "Bytes written since boot, by card, stick or drive."
        written = CounterMetricFamily(f"{PREFIX}disk_written_bytes", text, labels=["device"])
        for name, count in found.disk_written_bytes.items():
            written.add_metric([name], count)
        yield written

    def _throttling(self, found: Readings) -> Iterator[Metric]:
        text = "1 while the firmware holds back for this cause (Raspberry Pi)."
        now = GaugeMetricFamily(f"{PREFIX}held_back", text, labels=["cause"])
        text = (
            "1 if the firmware has held back for this cause since the device was switched on (Raspberry Pi)."
        )
        ever = GaugeMetricFamily(f"{PREFIX}held_back_since_boot", text, labels=["cause"])
        if found.throttling is not None:
            for cause in CAUSES:
                now.add_metric([cause], float(cause in found.throttling.now))
                ever.add_metric([cause], float(cause in found.throttling.since_boot))
        yield now
        yield ever


def _gauge(name: str, text: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text)
    if value is not None:
        family.add_metric([], value)
    return family


def _counter(name: str, text: str, value: float | None) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text)
    if value is not None:
        family.add_metric([], value)
    return family
