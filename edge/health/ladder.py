"""The ladder: steps by which a device does less while it is too hot, short of memory, or short of voltage.

Pure: readings and the time go in, the step comes out. One step up where a cause has lasted for 30 s; two
after 10 s where it is serious; one down once all has been well for 180 s. Temperatures are counted from the
wall at which the processor holds itself back: up from 8 °C below it, down from 14 °C below it, so that a
reading that wavers changes nothing. It is serious from 2 °C below the wall, and already before where it gets
hotter so fast that it would be there within a minute, since what is saved shows only after a while.
"""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from spillover.edge.health.readings import Readings

UP_S, SERIOUS_UP_S, DOWN_S = 30.0, 10.0, 180.0
HOT_K, SERIOUS_K, COOL_K = 8.0, 2.0, 14.0
"""Below the wall."""
AHEAD_S = 60.0
"""How far a rise is drawn out."""
RISE_S = 30.0
"""Over how long a rise is measured."""
GAP_S = 15.0
"""Readings this far apart tell nothing of the time between them, as when the process was stopped."""
FULL, ROOMY = 0.95, 0.90
"""Share of the memory that is taken: short of it, and well again."""
WAITING, FLOWING = 0.10, 0.02
"""Share of the time that something waits for memory, likewise."""
KILLED_S = 60.0
"""A process that the kernel has ended for want of memory counts for so long."""


class Cause(enum.Enum):
    """Why a device does less."""

    HEAT = "heat"
    MEMORY = "memory"
    VOLTAGE = "voltage"


@dataclass(frozen=True, slots=True)
class Step:
    """What a device does on one step of the ladder."""

    share: float
    """Of the frame rate; 0: no frame is taken."""
    spares: bool
    """Whether what no answer needs rests: the pictures of the live view."""
    variant: int
    """Which of the model's variants answers, where there are so many; 0: the model itself."""
    does: str
    """In words."""


STEPS = (
    Step(1.0, False, 0, "everything"),
    Step(1.0, True, 0, "no live pictures"),
    Step(0.75, True, 0, "3/4 of the frame rate"),
    Step(0.5, True, 1, "half the frame rate, smaller model"),
    Step(0.33, True, 2, "a third of the frame rate, smaller model"),
    Step(0.1, True, 3, "a tenth of the frame rate, smaller model"),
    Step(0.0, True, 3, "paused: no frame is taken"),
)
HIGHEST: Mapping[Cause, int] = {Cause.HEAT: 6, Cause.MEMORY: 5, Cause.VOLTAGE: 5}
"""Heat alone may pause a device: to see nothing mends neither a power supply nor another program's memory."""


class Level(enum.IntEnum):
    """How bad it is."""

    WELL = 0
    BETWEEN = 1
    BAD = 2
    SERIOUS = 3


@dataclass(frozen=True, slots=True)
class Strain:
    """One cause: since when it has been bad, and serious, and when that was seen last (monotonic seconds)."""

    bad_since_s: float | None = None
    serious_since_s: float | None = None
    seen_s: float = -math.inf

    def anew(self, now_s: float) -> "Strain":
        """Counted from now on, after a step that is to be given time."""
        bad, serious = self.bad_since_s, self.serious_since_s
        return Strain(None if bad is None else now_s, None if serious is None else now_s, self.seen_s)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where a device stands, and what it has seen on the way there."""

    step: int = 0
    cause: Cause | None = None
    """What led to the last step up; None on the lowest one."""
    reason: str = ""
    """That, or why it could go down, with its figure."""
    strains: Mapping[Cause, Strain] = field(default_factory=dict)
    well_since_s: float | None = None
    temperatures: tuple[tuple[float, float], ...] = ()
    """Seconds and degrees of the last `RISE_S`."""
    oom_kills: int | None = None
    killed_s: float | None = None
    at_s: float | None = None

    @property
    def now(self) -> Step:
        """What the device does."""
        return STEPS[self.step]

    def after(self, readings: Readings, now_s: float, wall_c: float) -> "Ladder":
        """The ladder with one more reading, at `now_s` (monotonic).

        What a sensor does not tell neither drives the device up nor keeps it there.
        """
        seen = self._seen(readings, now_s)
        levels = {
            Cause.HEAT: _heat(readings, seen.temperatures, wall_c),
            Cause.MEMORY: _memory(readings, seen.killed_s is not None and now_s - seen.killed_s < KILLED_S),
            Cause.VOLTAGE: _voltage(readings),
        }
        strains = {
            cause: _strain(seen.strains.get(cause, Strain()), level, now_s) for cause, level in levels.items()
        }
        is_well = all(level in {None, Level.WELL} for level in levels.values())
        well_since_s = (now_s if seen.well_since_s is None else seen.well_since_s) if is_well else None
        seen = replace(seen, strains=strains, well_since_s=well_since_s)
        return seen._stepped(readings, now_s)  # noqa: SLF001 - its own

    def _seen(self, readings: Readings, now_s: float) -> "Ladder":
        """Take note of the reading; begin anew to count where the time before is not known."""
        known = self
        if self.at_s is not None and not 0 <= now_s - self.at_s <= GAP_S:
            known = replace(self, strains={}, well_since_s=None, temperatures=(), killed_s=None)
        recent = tuple(one for one in known.temperatures if one[0] >= now_s - RISE_S)
        if (celsius := readings.temperature_celsius) is not None:
            recent = (*recent, (now_s, celsius))
        kills, killed_s = readings.oom_kills, known.killed_s
        if kills is not None and known.oom_kills is not None and kills > known.oom_kills:
            killed_s = now_s
        kills = known.oom_kills if kills is None else kills
        return replace(known, temperatures=recent, oom_kills=kills, killed_s=killed_s, at_s=now_s)

    def _stepped(self, readings: Readings, now_s: float) -> "Ladder":
        """Up to the highest step that a cause leads to, or down, or as it is."""
        wanted = {cause: min(HIGHEST[cause], self.step + self._rise(cause, now_s)) for cause in Cause}
        cause = max(wanted, key=lambda one: wanted[one])
        if wanted[cause] <= self.step:
            return self._lower(readings, now_s)
        strains = {one: strain.anew(now_s) for one, strain in self.strains.items()}
        reason = _REASONS[cause](readings)
        return replace(self, step=wanted[cause], cause=cause, reason=reason, strains=strains)

    def _rise(self, cause: Cause, now_s: float) -> int:
        strain = self.strains[cause]
        if strain.seen_s != now_s:
            return 0  # not now
        if strain.serious_since_s is not None and now_s - strain.serious_since_s >= SERIOUS_UP_S:
            return 2
        return int(strain.bad_since_s is not None and now_s - strain.bad_since_s >= UP_S)

    def _lower(self, readings: Readings, now_s: float) -> "Ladder":
        if not self.step or self.well_since_s is None or now_s - self.well_since_s < DOWN_S:
            return self
        step = self.step - 1
        cause = self.cause if step else None
        return replace(self, step=step, cause=cause, reason=_well(readings), well_since_s=now_s)


def _strain(before: Strain, level: Level | None, now_s: float) -> Strain:
    """A reading that is missing counts like the one before, for a short while."""
    if level is None:
        return before if now_s - before.seen_s <= GAP_S else Strain()
    if level < Level.BAD:
        return Strain()
    bad = now_s if before.bad_since_s is None else before.bad_since_s
    serious = now_s if before.serious_since_s is None else before.serious_since_s
    return Strain(bad, serious if level is Level.SERIOUS else None, now_s)


def _heat(readings: Readings, temperatures: tuple[tuple[float, float], ...], wall_c: float) -> Level | None:
    celsius = readings.temperature_celsius
    is_throttled = readings.throttling is not None and "throttled" in readings.throttling.now
    if celsius is None:
        return Level.SERIOUS if is_throttled and not readings.under_voltage else None
    if celsius <= wall_c - COOL_K:
        return Level.WELL  # the firmware throttles for want of voltage too
    if celsius < wall_c - HOT_K:
        return Level.SERIOUS if is_throttled else Level.BETWEEN
    then_s, then_c = temperatures[0]
    now_s = temperatures[-1][0]
    rise = max(0.0, celsius - then_c) / (now_s - then_s) if now_s > then_s else 0.0
    is_serious = is_throttled or celsius + AHEAD_S * rise >= wall_c - SERIOUS_K
    return Level.SERIOUS if is_serious else Level.BAD


def _memory(readings: Readings, was_killed: bool) -> Level | None:
    """By the control group's limit; by what waits, or, where the kernel does not tell, by what is left."""
    if was_killed:
        return Level.SERIOUS
    levels = []
    if (taken := _taken(readings.memory_limit_used_bytes, readings.memory_limit_bytes)) is not None:
        levels.append(_level(taken, FULL, ROOMY))
    if readings.memory_pressure is not None:
        levels.append(_level(readings.memory_pressure, WAITING, FLOWING))
    elif readings.memory_available_bytes is not None and readings.memory_size_bytes:
        left = readings.memory_available_bytes / readings.memory_size_bytes
        levels.append(_level(1 - left, FULL, ROOMY))
    return max(levels, default=None)


def _voltage(readings: Readings) -> Level | None:
    if readings.under_voltage is None:
        return None
    return Level.BAD if readings.under_voltage else Level.WELL


def _level(value: float, bad: float, well: float) -> Level:
    return Level.BAD if value >= bad else Level.WELL if value <= well else Level.BETWEEN


def _taken(used: int | None, limit: int | None) -> float | None:
    return used / limit if used is not None and limit else None


def _celsius(readings: Readings) -> str:
    celsius = readings.temperature_celsius
    return "the processor is throttled" if celsius is None else f"{celsius:.1f} °C"


def _memory_words(readings: Readings) -> str:
    if (taken := _taken(readings.memory_limit_used_bytes, readings.memory_limit_bytes) or 0.0) >= FULL:
        return f"{taken:.0%} of the memory limit taken"
    if readings.memory_pressure is not None and readings.memory_pressure >= WAITING:
        return f"{readings.memory_pressure:.0%} of the time waiting for memory"
    if readings.memory_available_bytes is not None and readings.memory_pressure is None:
        return f"{readings.memory_available_bytes / 1e6:.0f} MB of memory left"
    return "a process was ended for want of memory"


def _volts(readings: Readings) -> str:
    volts = readings.supply_volts
    return "under-voltage" + (f", {volts:.2f} V" if volts is not None else "")


def _well(readings: Readings) -> str:
    heat = f" at {readings.temperature_celsius:.1f} °C" if readings.temperature_celsius is not None else ""
    return f"well for {DOWN_S:.0f} s{heat}"


_REASONS = {Cause.HEAT: _celsius, Cause.MEMORY: _memory_words, Cause.VOLTAGE: _volts}
