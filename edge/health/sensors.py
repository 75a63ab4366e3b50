"""Reads the kernel's and the firmware's figures, below folders that stand in for `/sys` and `/proc`.

Sources: thermal zones (Documentation/driver-api/thermal/sysfs-api.rst), hwmon (Documentation/hwmon/
sysfs-interface.rst), proc(5), and the bits of `vcgencmd get_throttled` (Raspberry Pi documentation).
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from spillover.edge.health.readings import DiskSpace, Throttling

CAUSES = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
"""Bits 0 to 3 of the firmware's word, now; bits 16 to 19 are the same since the start."""
_SINCE_BOOT = 16
_FIRMWARE = "devices/platform/soc*/*firmware*/get_throttled"
"""`soc/soc:firmware` up to the Pi 4."""
_VCGENCMD_LIMIT_S = 2.0
_PROCESSOR = re.compile(r"cpu|soc|x86_pkg|coretemp|k10temp", re.IGNORECASE)
"""Names of zones and of hwmon chips that measure a processor."""
_SUPPLY = re.compile(r"vin|vcc|vdd|5v|12v|supply|vbus|vsys", re.IGNORECASE)
"""Labels of voltages at which a board is fed."""
_PCS = re.compile(r"coretemp|k10temp|zenpower")
"""Chips of processors that are made to run hotter than a Raspberry Pi's."""
PI_WALL_C, PC_WALL_C = 85.0, 95.0
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


def throttling(sys: Path) -> Throttling | None:
    """What the firmware holds back, as the kernel tells it; None where it does not."""
    text = next((found for path in sys.glob(_FIRMWARE) if (found := read(path)) is not None), None)
    return throttling_of(text) if text else None


def firmware_throttling() -> Throttling | None:
    """The same by `vcgencmd`, a process of its own; None where it is not a Raspberry Pi's."""
    text = _firmware("get_throttled")
    return throttling_of(text) if text else None


def wall_celsius(sys: Path) -> float:
    """Where the processor holds itself back: what a PC's chip says of itself, else a Raspberry Pi's 85 °C."""
    walls: list[float] = []
    for chip in _hwmon(sys):
        if _PCS.search(read(chip / "name") or ""):
            found = [value for path in chip.glob("temp*_crit") for _, value in _degrees(path, "")]
            walls += [value for value in found if PI_WALL_C <= value < _PLAUSIBLE_C[1]] or [PC_WALL_C]
    return min(walls, default=PI_WALL_C)


def fan_rpm(sys: Path) -> int | None:
    """Turns a minute of the fastest fan."""
    return max(_values(_inputs(sys, "fan*_input")), default=None)


def under_voltage(sys: Path, throttling: Throttling | None) -> bool | None:
    """Whether the supply's voltage is too low, by an alarm of hwmon (Pi: `rpi_volt`) or by the firmware."""
    alarms = _values(_inputs(sys, "in*_lcrit_alarm"))
    if throttling is not None:
        alarms.append(int("under_voltage" in throttling.now))
    return any(alarms) if alarms else None


def supply_volts(sys: Path) -> float | None:
    """The lowest voltage of hwmon whose label says that it feeds the board."""
    fed = [
        path
        for path in _inputs(sys, "in*_input")
        if _SUPPLY.search(read(path.with_name(path.name.replace("input", "label"))) or "")
    ]
    return min((value / 1000 for value in _values(fed)), default=None)


def firmware_volts() -> float | None:
    """The same by the firmware of a Pi 5, a process of its own."""
    text = _firmware("pmic_read_adc", "EXT5V_V") or ""
    found = re.search(r"EXT5V_V volt\(\d+\)=(\d{1,2}\.\d{1,9})V", text)
    return float(found[1]) if found else None


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
    for sensor in _inputs(sys, "temp*_input"):
        yield from _degrees(sensor, read(sensor.with_name("name")) or "")


def _degrees(path: Path, name: str) -> Iterator[tuple[str, float]]:
    if (value := _whole(path)) is not None:
        yield name, value / 1000


def _hwmon(sys: Path) -> list[Path]:
    return sorted((sys / "class" / "hwmon").glob("hwmon*"))


def _inputs(sys: Path, pattern: str) -> list[Path]:
    """Files of that kind of all chips."""
    return [path for chip in _hwmon(sys) for path in sorted(chip.glob(pattern))]


def _values(paths: Iterable[Path]) -> list[int]:
    """The numbers of those files that hold one, and none below 0."""
    return [value for path in paths if (value := _whole(path)) is not None and value >= 0]


def _whole(path: Path) -> int | None:
    """The whole number that a file holds; None for anything else."""
    text = (read(path) or "").strip()
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else None


def _named(bits: int) -> tuple[str, ...]:
    return tuple(cause for bit, cause in enumerate(CAUSES) if bits >> bit & 1)


def _firmware(*words: str) -> str | None:
    """What `vcgencmd` answers; None where it is not there or refuses."""
    if (program := shutil.which("vcgencmd")) is None:
        return None
    command = [program, *words]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_VCGENCMD_LIMIT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if not done.returncode else None
