"""Meters of this machine: busy time of its GPUs, and energy, where it reports them."""

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")
HWMON = Path("/sys/class/hwmon")
GPU_TICK_S = 0.5
_NVIDIA_SMI = (
    "nvidia-smi",
    "--query-gpu=utilization.gpu",
    "--format=csv,noheader,nounits",
    f"--loop-ms={GPU_TICK_S * 1000:.0f}",
)


class GpuMeter:
    """Adds up the utilisation of all GPUs: 1 is one GPU busy for one second.

    The driver's figure is the share of the last interval in which any kernel ran, so a GPU that is hardly
    filled counts as busy. It includes other processes' work on the same GPUs.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._busy_s = 0.0
        self._thread = threading.Thread(target=self._read, name="gpu-meter", daemon=True)
        self._thread.start()

    def read_s(self) -> float:
        """Busy GPU seconds since the meter was opened."""
        return self._busy_s

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - asked for by `open_gpu_meter`
        for line in self._process.stdout:
            if line.strip().isdigit():  # `[N/A]` from a GPU without the figure
                self._busy_s += int(line) / 100 * GPU_TICK_S


@contextlib.contextmanager
def open_gpu_meter(command: tuple[str, ...] = _NVIDIA_SMI) -> Iterator[GpuMeter | None]:
    """A meter while the block lasts; None where there is no NVIDIA driver."""
    if shutil.which(command[0]) is None:
        yield None
        return
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    ) as process:
        try:
            yield GpuMeter(process)
        finally:
            process.kill()


class EnergyMeter(Protocol):
    """Counts joules."""

    def read_j(self) -> float:
        """Joules since the meter was opened."""
        ...


class Rapl:
    """Running average power limit: a counter a package, in microjoules, that wraps (kernel: powercap.rst)."""

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
    """RAPL, else a board's power sensor; None where neither can be read."""
    # `intel-rapl:0` is a package; `intel-rapl:0:1` is a part of it and included in its count.
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    sensors = sorted(hwmon.glob("*/power1_input"))
    try:
        if zones:
            return Rapl(zones)
        return PowerSensor(sensors[0]) if sensors else None
    except (OSError, ValueError):
        return None  # present but unreadable: since 2020 RAPL is for root alone
