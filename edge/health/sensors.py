"""Reads the kernel's and the firmware's figures, below folders that stand in for `/sys` and `/proc`.

Sources: thermal zones (Documentation/driver-api/thermal/sysfs-api.rst), hwmon (Documentation/hwmon/
sysfs-interface.rst), proc(5), and the bits of `vcgencmd get_throttled` (Raspberry Pi documentation).
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from spillover.edge.health.readings import DiskSpace, Throttling

CAUSES = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
"""Bits 0 to 3 of the firmware's word, now; bits 16 to 19 are the same since the start."""
_SINCE_BOOT = 16
_FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"
_VCGENCMD_LIMIT_S = 2.0
_PROCESSOR = re.compile(r"cpu|soc|x86_pkg|coretemp|k10temp", re.IGNORECASE)
"""Names of zones and of hwmon chips that measure a processor."""
_MAX_BYTES = 64 * 1024
_PLAUSIBLE_C = (-60.0, 200.0)
"""A sensor that is not connected gives absurd values."""


def temperature_celsius(sys: Path) -> float | None:
    """The hottest sensor of the processor; where none says that it is one, the hottest of all."""
    found = [*_zones(sys), *_chips(sys)]
    low, high = _PLAUSIBLE_C
    plausible = [(name, value) for name, value in found if low < value < high]
    processor = [value for name, value in plausible if _PROCESSOR.search(name)]
    return max(processor or [value for _, value in plausible], default=None)


def throttling(sys: Path, *, ask_firmware: bool) -> Throttling | None:
    """What the firmware holds back; None where it is not that of a Raspberry Pi.

    Kernels without the file in sysfs leave `vcgencmd`, a process of its own; `ask_firmware` allows that.
    """
    text = read(sys / _FIRMWARE)
    if text is None and ask_firmware and (program := shutil.which("vcgencmd")):
        text = _output([program, "get_throttled"])
    return throttling_of(text) if text else None


def throttling_of(text: str) -> Throttling | None:
    """Read the firmware's word, such as `50005` or `throttled=0x50005`; None for anything else."""
    found = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", text.strip())
    if found is None:
        return None
    word = int(found[1], 16)
    return Throttling(now=_named(word), since_boot=_named(word >> _SINCE_BOOT))


def cpu_ticks(proc: Path) -> tuple[float, float] | None:
    """Ticks of all cores since the start: those at work, and all."""
    found = re.match(r"cpu((?: +\d{1,19}){5,})\n", read(proc / "stat") or "")
    if found is None:
        return None
    ticks = [float(word) for word in found[1].split()[:8]]  # without those of guests, in `user` already
    idle = ticks[3] + ticks[4]  # idle, and waiting for a disk
    return sum(ticks) - idle, sum(ticks)


def load(proc: Path) -> float | None:
    """The load average of the last minute."""
    found = re.match(r"\d{1,9}\.\d{1,9}(?= )", read(proc / "loadavg") or "")
    return float(found[0]) if found else None


def kilobytes(path: Path, key: str) -> int | None:
    """The value of `key`, in bytes, from a file with lines such as `MemAvailable:  1234 kB`."""
    found = re.search(rf"^{key}:\s+(\d{{1,15}}) kB$", read(path) or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def disk_space(folder: Path) -> DiskSpace | None:
    """The room on the file system of `folder`; None if it is not there."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    unit = found.f_frsize
    return DiskSpace(folder=str(folder), free_bytes=found.f_bavail * unit, size_bytes=found.f_blocks * unit)


def read(path: Path) -> str | None:
    """The text of a small file of the kernel; None if it is absent, or its driver has no value now."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return None


def _zones(sys: Path) -> Iterator[tuple[str, float]]:
    """Name and degrees of each thermal zone."""
    for zone in sorted((sys / "class" / "thermal").glob("thermal_zone*")):
        yield from _degrees(zone / "temp", read(zone / "type") or "")


def _chips(sys: Path) -> Iterator[tuple[str, float]]:
    """Name and degrees of each sensor of each chip."""
    for chip in sorted((sys / "class" / "hwmon").glob("hwmon*")):
        for sensor in sorted(chip.glob("temp*_input")):
            yield from _degrees(sensor, read(chip / "name") or "")


def _degrees(path: Path, name: str) -> Iterator[tuple[str, float]]:
    if re.fullmatch(r"-?\d{1,9}", text := (read(path) or "").strip()):
        yield name, int(text) / 1000


def _named(bits: int) -> tuple[str, ...]:
    return tuple(cause for bit, cause in enumerate(CAUSES) if bits >> bit & 1)


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_VCGENCMD_LIMIT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if not done.returncode else None
