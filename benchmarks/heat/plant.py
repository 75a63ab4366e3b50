"""A device that gets hot: a first-order model of its temperature, with the daemon's own ladder in the loop.

Power is `idle_w` and `frame_j` a frame; the temperature goes towards ambient + `k_per_w` x power with the
time constant `tau_s`. The ambient temperature swings by 6 °C. The constants are invented: a bare
board without a fan in the sun, at 14 frames a second.
"""

import functools
import math
import random
from dataclasses import dataclass, field

from spillover.edge.health.ladder import STEPS, Ladder
from spillover.edge.health.monitor import PERIOD_S
from spillover.edge.health.readings import Readings

WALL_C = 85.0
HOT_C = 80.0
"""Above it a Raspberry Pi holds itself back."""
SWING_C = 6.0
QUICK_S = 120.0
"""A step up so soon after one down is flapping."""


@dataclass(frozen=True, slots=True)
class Plant:
    """One device and where it stands."""

    name: str
    k_per_w: float = 7.0
    tau_s: float = 90.0
    idle_w: float = 2.7
    frame_j: float = 0.22
    fps: float = 14.0
    noise_c: float = 0.0
    """Standard deviation of a reading."""
    swing_s: float = 3600.0


@dataclass(slots=True)
class Course:
    """What became of a device. Times are seconds, temperatures °C."""

    times_s: list[float] = field(default_factory=list)
    temperatures_c: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    changes_s: list[float] = field(default_factory=list)
    quick_changes: int = 0
    """Steps up within `QUICK_S` of a step down."""
    frames: float = 0.0

    @property
    def hot_share(self) -> float:
        """Share of the time above `HOT_C`."""
        return sum(celsius > HOT_C for celsius in self.temperatures_c) / len(self.temperatures_c)

    @property
    def fps(self) -> float:
        """Mean frames a second."""
        return self.frames / self.times_s[-1]

    @property
    def changes_per_h(self) -> float:
        """Steps up and down an hour."""
        return len(self.changes_s) / self.times_s[-1] * 3600


@functools.cache
def run(plant: Plant, ambient_c: float, hours: float, *, ladder: bool = True, cools_c: float = 0.0) -> Course:
    """Follow a device that begins at `ambient_c`; in the second half the air is `cools_c` colder.

    Who asks the same again gets the same course: leave it as it is.
    """
    draw, course, stands = random.Random(1), Course(), Ladder()  # noqa: S311 - noise of a sensor
    celsius, went_down_s = ambient_c, -math.inf
    for second in range(int(hours * 3600)):
        around_c = ambient_c + SWING_C * math.sin(2 * math.pi * second / plant.swing_s)
        around_c -= cools_c if second > hours * 1800 else 0.0
        fps = plant.fps * STEPS[stands.step].share
        power_w = plant.idle_w + plant.frame_j * fps
        celsius += (around_c + plant.k_per_w * power_w - celsius) / plant.tau_s
        course.frames += fps
        if ladder and second % PERIOD_S == 0:
            before = stands.step
            read_c = celsius + draw.gauss(0.0, plant.noise_c)
            stands = stands.after(Readings(temperature_celsius=read_c), float(second), WALL_C)
            if stands.step != before:
                course.changes_s.append(second)
                course.quick_changes += stands.step > before and second - went_down_s < QUICK_S
                went_down_s = second if stands.step < before else went_down_s
        course.times_s.append(float(second))
        course.temperatures_c.append(celsius)
        course.steps.append(stands.step)
    return course
