"""Reads the device's health when somebody asks, and at most every few seconds."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from spillover.edge.health import sensors
from spillover.edge.health.readings import Readings, Throttling

PERIOD_S = 5.0
"""A reading is given again for so long; one costs less than a millisecond, without the firmware."""
FIRMWARE_PERIOD_S = 60.0
"""How often the firmware is asked where that takes a process of its own."""


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
    ) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        self._sys, self._proc = root / "sys", root / "proc"
        self._clock = clock
        self._process_s = process_s
        self._cores = cores
        self._reading = threading.Lock()
        self._latest = Readings()
        self._read_at_s: float | None = None
        self._firmware_at_s: float | None = None
        self._throttling: Throttling | None = None
        self._ticks = sensors.cpu_ticks(self._proc)
        self._process_before = (clock(), process_s())

    def latest(self) -> Readings:
        """A reading of the last few seconds.

        Where a disk does not answer, one thread waits for it and all others get the reading before.
        """
        now_s = self._clock()
        is_due = self._read_at_s is None or now_s - self._read_at_s >= PERIOD_S
        if is_due and self._reading.acquire(blocking=False):
            try:
                self._latest, self._read_at_s = self._read(now_s), now_s
            finally:
                self._reading.release()
        return self._latest

    def _read(self, now_s: float) -> Readings:
        own, meminfo = self._proc / "self" / "status", self._proc / "meminfo"
        spaces = (sensors.disk_space(folder) for folder in self._folders)
        return Readings(
            temperature_celsius=sensors.temperature_celsius(self._sys),
            throttling=self._read_throttling(now_s),
            cpu_share=self._cpu_share(),
            process_cpu_share=self._process_share(now_s),
            load=sensors.load(self._proc),
            process_anon_bytes=sensors.kilobytes(own, "RssAnon"),
            process_file_bytes=sensors.kilobytes(own, "RssFile"),
            memory_available_bytes=sensors.kilobytes(meminfo, "MemAvailable"),
            memory_size_bytes=sensors.kilobytes(meminfo, "MemTotal"),
            disks=tuple(space for space in spaces if space is not None),
        )

    def _read_throttling(self, now_s: float) -> Throttling | None:
        """The file at each reading; the program once a minute, and what it said until then."""
        asks = self._firmware_at_s is None or now_s - self._firmware_at_s >= FIRMWARE_PERIOD_S
        if asks:
            self._firmware_at_s = now_s
        found = sensors.throttling(self._sys, ask_firmware=asks)
        if found is not None or asks:
            self._throttling = found
        return self._throttling

    def _cpu_share(self) -> float | None:
        before, now = self._ticks, sensors.cpu_ticks(self._proc)
        if now is None or before is None or now[1] <= before[1]:
            return None
        self._ticks = now
        return (now[0] - before[0]) / (now[1] - before[1])

    def _process_share(self, now_s: float) -> float | None:
        then_s, before_s = self._process_before
        if now_s <= then_s:
            return None
        taken_s = self._process_s()
        self._process_before = (now_s, taken_s)
        return (taken_s - before_s) / (now_s - then_s) / self._cores
