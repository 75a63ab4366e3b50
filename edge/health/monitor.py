"""Reads the device's health when somebody asks, and at most every few seconds."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from spillover.edge.health import sensors, usage
from spillover.edge.health.readings import DiskSpace, Readings, Throttling

PERIOD_S = 5.0
"""A reading is given again for so long; one costs less than a millisecond, without the firmware."""
FIRMWARE_PERIOD_S = 60.0
"""How often the firmware is asked where that takes a process of its own."""


@dataclass(frozen=True, slots=True)
class Power:
    """What the device draws with idle cores and with all of them busy, by which its power is estimated."""

    idle_watts: float
    busy_watts: float


class HealthMonitor:
    """The latest reading. Thread-safe; nothing is read while nobody asks.

    `folders` are those whose disks are watched. `root` stands for `/`; `clock` gives monotonic seconds and
    `process_s` the seconds of all cores that this process has taken.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
        process_s: Callable[[], float] = time.process_time,
        cores: int = 1,
        power: Power | None = None,
    ) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        self._sys, self._proc = root / "sys", root / "proc"
        self._clock = clock
        self._process_s = process_s
        self._cores = cores
        self._power = power
        self._reading, self._reading_disks = threading.Lock(), threading.Lock()
        self._latest = Readings()
        self._disks: tuple[DiskSpace, ...] = ()
        self._read_at_s: float | None = None
        self._disks_at_s: float | None = None
        self._firmware_at_s: float | None = None
        self._throttling: Throttling | None = None
        self._supply_volts: float | None = None
        self._energy_joules = 0.0
        self._ticks = sensors.cpu_ticks(self._proc)
        self._before = (clock(), process_s())

    def latest(self) -> Readings:
        """A reading of the last few seconds.

        Where a disk does not answer, one thread waits for it and all others get what it said before.
        """
        readings = self.sample()
        if _is_due(self._disks_at_s, self._clock()) and self._reading_disks.acquire(blocking=False):
            try:
                self._disks_at_s = self._clock()
                found = (sensors.disk_space(folder) for folder in self._folders)
                self._disks = tuple(space for space in found if space is not None)
            finally:
                self._reading_disks.release()
        return msgspec.structs.replace(readings, disks=self._disks)

    def sample(self) -> Readings:
        """The same without asking a disk, so that none holds it up."""
        now_s = self._clock()
        if _is_due(self._read_at_s, now_s) and self._reading.acquire(blocking=False):
            try:
                self._latest, self._read_at_s = self._read(now_s), now_s
            finally:
                self._reading.release()
        return self._latest

    def _read(self, now_s: float) -> Readings:
        own, meminfo = self._proc / "self" / "status", self._proc / "meminfo"
        self._ask_firmware(now_s)
        throttling = sensors.throttling(self._sys) or self._throttling
        memory = usage.memory_limit(self._sys, self._proc)
        cpu_share, (passed_s, process_share) = self._cpu_share(), self._process_share(now_s)
        watts = self._watts(cpu_share, passed_s)
        return Readings(
            temperature_celsius=sensors.temperature_celsius(self._sys),
            throttling=throttling,
            cpu_share=cpu_share,
            process_cpu_share=process_share,
            load=sensors.load(self._proc),
            process_anon_bytes=sensors.kilobytes(own, "RssAnon"),
            process_file_bytes=sensors.kilobytes(own, "RssFile"),
            memory_available_bytes=sensors.kilobytes(meminfo, "MemAvailable"),
            memory_size_bytes=sensors.kilobytes(meminfo, "MemTotal"),
            memory_limit_bytes=memory.limit_bytes,
            memory_limit_used_bytes=memory.used_bytes,
            oom_kills=memory.oom_kills,
            cpu_pressure=usage.pressure(self._proc, "cpu"),
            memory_pressure=usage.pressure(self._proc, "memory"),
            io_pressure=usage.pressure(self._proc, "io"),
            fan_rpm=sensors.fan_rpm(self._sys),
            supply_volts=sensors.supply_volts(self._sys) or self._supply_volts,
            under_voltage=sensors.under_voltage(self._sys, throttling),
            power_estimate_watts=watts,
            energy_estimate_joules=self._energy_joules if self._power else None,
            disks=self._disks,
            disk_written_bytes=usage.written_bytes(self._sys),
        )

    def _ask_firmware(self, now_s: float) -> None:
        """Once a minute; what it said holds until then. What the kernel tells is not asked."""
        if not _is_due(self._firmware_at_s, now_s, FIRMWARE_PERIOD_S):
            return
        self._firmware_at_s = now_s
        self._throttling = None if sensors.throttling(self._sys) else sensors.firmware_throttling()
        self._supply_volts = None if sensors.supply_volts(self._sys) else sensors.firmware_volts()

    def _cpu_share(self) -> float | None:
        before, now = self._ticks, sensors.cpu_ticks(self._proc)
        self._ticks = now or before
        if now is None or before is None or now[1] <= before[1]:
            return None
        return (now[0] - before[0]) / (now[1] - before[1])

    def _process_share(self, now_s: float) -> tuple[float, float | None]:
        """Seconds since the reading before, and this process's share of them."""
        then_s, before_s = self._before
        if now_s <= then_s:
            return 0.0, None
        taken_s = self._process_s()
        self._before = (now_s, taken_s)
        return now_s - then_s, (taken_s - before_s) / (now_s - then_s) / self._cores

    def _watts(self, cpu_share: float | None, passed_s: float) -> float | None:
        if self._power is None or cpu_share is None:
            return None
        watts = self._power.idle_watts + (self._power.busy_watts - self._power.idle_watts) * cpu_share
        self._energy_joules += watts * passed_s
        return watts


def _is_due(last_s: float | None, now_s: float, period_s: float = PERIOD_S) -> bool:
    """Also when the clock has gone back, after which a long time could pass."""
    return last_s is None or not 0 <= now_s - last_s < period_s
