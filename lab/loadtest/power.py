"""Energy of this machine, where it says: RAPL counters of the processor, or a power meter of the board."""

import time
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")
HWMON = Path("/sys/class/hwmon")


class EnergyMeter(Protocol):
    """Counts up."""

    name: str

    def read_j(self) -> float:
        """Joules since the meter was opened."""
        ...


class Rapl:
    """Running average power limit: a counter a package, in microjoules, that wraps (kernel: powercap.rst)."""

    name = "RAPL"

    def __init__(self, zones: list[Path]) -> None:
        self._zones = zones
        self._range_uj = [int((zone / "max_energy_range_uj").read_text()) for zone in zones]
        self._last_uj = [self._read(zone) for zone in zones]
        self._total_uj = 0

    def read_j(self) -> float:
        """Sum of all packages."""
        for index, zone in enumerate(self._zones):
            now_uj = self._read(zone)
            self._total_uj += (now_uj - self._last_uj[index]) % (self._range_uj[index] + 1)
            self._last_uj[index] = now_uj
        return self._total_uj / 1e6

    @staticmethod
    def _read(zone: Path) -> int:
        return int((zone / "energy_uj").read_text())


class PowerSensor:
    """A board's own meter (hwmon `power1_input`, in microwatts), summed over the time between readings."""

    name = "hwmon power sensor"

    def __init__(self, sensor: Path) -> None:
        self._sensor = sensor
        self._total_j = 0.0
        self._last_s = time.monotonic()

    def read_j(self) -> float:
        """Power now, times the time since the last reading, added up."""
        now_s = time.monotonic()
        self._total_j += int(self._sensor.read_text()) / 1e6 * (now_s - self._last_s)
        self._last_s = now_s
        return self._total_j


def open_energy_meter(powercap: Path = POWERCAP, hwmon: Path = HWMON) -> EnergyMeter | None:
    """The best meter that can be read here, or None."""
    # `intel-rapl:0` is a package; `intel-rapl:0:1` a part of it, that is counted in it already.
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    sensors = sorted(hwmon.glob("*/power1_input"))
    try:
        if zones:
            return Rapl(zones)
        return PowerSensor(sensors[0]) if sensors else None
    except (OSError, ValueError):
        return None  # there, but not ours to read: since 2020 RAPL is for root alone
