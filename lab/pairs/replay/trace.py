"""Link traces: bytes a second and round trip over time, from a CSV or from a model.

CSV columns: `at_s` (from 0, rising), `rate_bytes_per_s` (0 is an outage), `rtt_s`. A line holds
until the next; the trace begins again after its last line, which says where it ends.
"""

import csv
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np

from spillover.common.errors import SourceError

COLUMNS = ("at_s", "rate_bytes_per_s", "rtt_s")
DURATION_S = 600.0
FOREVER = 1e9
"""Seconds, or repeats of a trace, that count as never."""
_STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Step:
    """The link from `at_s` on."""

    at_s: float
    rate_bytes_per_s: float
    rtt_s: float


class LinkTrace:
    """A link that carries one transfer after the other.

    Raises:
        SourceError: no two lines, times that do not rise, numbers below 0, or a link that carries nothing.
    """

    def __init__(self, name: str, steps: list[Step]) -> None:
        self.name = name
        self._steps = steps
        self._starts = [step.at_s for step in steps]
        rising = all(a < b for a, b in pairwise(self._starts))
        if len(steps) < 2 or steps[0].at_s != 0 or not rising:
            raise SourceError(f"link trace {name}: needs at least two lines, at_s from 0 and rising")
        numbers = np.array([(step.at_s, step.rate_bytes_per_s, step.rtt_s) for step in steps])
        if not (np.isfinite(numbers) & (numbers >= 0)).all():
            raise SourceError(f"link trace {name}: has a number that is not finite, or below 0")
        self.duration_s = steps[-1].at_s
        if not any(step.rate_bytes_per_s > 0 for step in steps[:-1]):
            raise SourceError(f"link trace {name}: never carries a byte")
        carried = pairwise(steps)
        self._lap_bytes = sum(a.rate_bytes_per_s * (b.at_s - a.at_s) for a, b in carried)

    @property
    def steps(self) -> Sequence[Step]:
        """The lines in order; the last one only marks the end of the trace."""
        return self._steps

    def at(self, time_s: float) -> Step:
        """The line that holds at a time; the first at an infinite time."""
        if not math.isfinite(time_s):
            return self._steps[0]
        return self._steps[bisect_right(self._starts, time_s % self.duration_s) - 1]

    def finish_s(self, start_s: float, payload_bytes: float) -> float:
        """When the last byte of a payload is through that begins at `start_s` (the way back not counted).

        Infinity for what would take decades.
        """
        laps = (
            math.floor(payload_bytes / self._lap_bytes)
            if payload_bytes < FOREVER * self._lap_bytes
            else math.inf
        )
        if not start_s + laps * self.duration_s < FOREVER:
            return math.inf
        now, left = start_s + laps * self.duration_s, payload_bytes - laps * self._lap_bytes
        while True:
            index = bisect_right(self._starts, now % self.duration_s) - 1
            ends = now - now % self.duration_s + self._starts[index + 1]
            rate = self._steps[index].rate_bytes_per_s
            if rate * (ends - now) >= left:
                return now + left / rate if left else now
            left -= rate * (ends - now)
            # Floating point must not leave the end of a line before it.
            now = max(ends, np.nextafter(now, np.inf))


def read_trace(path: Path) -> LinkTrace:
    """Read a CSV. Raises SourceError, naming the line."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error
    steps = []
    for line, row in enumerate(rows, start=2):
        try:
            steps.append(Step(*(float(row[column]) for column in COLUMNS)))
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{path}, line {line}: needs numbers {', '.join(COLUMNS)}") from error
    return LinkTrace(path.name, steps)  # `lte.csv` beside the modelled `lte`


def constant(_: np.random.Generator) -> list[tuple[float, float]]:
    """A good fixed line: 2 MB/s, 20 ms."""
    return [(2e6, 0.02)] * int(DURATION_S / _STEP_S)


def lte_drive(random: np.random.Generator) -> list[tuple[float, float]]:
    """Mobile uplink from a moving car: a slow log-normal walk around 600 kB/s, with fades at cell borders."""
    level, out = 0.0, []
    for n in range(int(DURATION_S / _STEP_S)):
        level = 0.97 * level + random.normal(0, 0.18)
        fade = 0.08 if (n * _STEP_S) % 97 < 6 else 1.0
        out.append((float(6e5 * np.exp(level) * fade), float(0.05 + 0.02 * random.exponential())))
    return out


def wifi_bursts(random: np.random.Generator) -> list[tuple[float, float]]:
    """Crowded Wi-Fi: fast, but in every fifth second others take most of the air."""
    busy = random.random(int(DURATION_S / _STEP_S)) < 0.2
    return [
        (float(3e5 if b else 4e6), float(0.005 + (0.06 if b else 0.004) * random.exponential())) for b in busy
    ]


def satellite(random: np.random.Generator) -> list[tuple[float, float]]:
    """Geostationary: 250 kB/s and 600 ms, with rain now and then."""
    steps = int(DURATION_S / _STEP_S)
    return [
        (2.5e5 * (0.3 if n % 240 < 30 else 1.0), float(0.6 + 0.01 * random.exponential()))
        for n in range(steps)
    ]


def outage(_: np.random.Generator) -> list[tuple[float, float]]:
    """A good line that is gone for 20 s in every 100."""
    return [(0.0 if n * _STEP_S % 100 >= 80 else 1.5e6, 0.03) for n in range(int(DURATION_S / _STEP_S))]


MODELS: Mapping[str, Callable[[np.random.Generator], list[tuple[float, float]]]] = MappingProxyType(
    {"constant": constant, "lte": lte_drive, "wifi": wifi_bursts, "satellite": satellite, "outage": outage}
)


def model_trace(name: str, seed: int = 0) -> LinkTrace:
    """Ten minutes of a link of that kind."""
    links = MODELS[name](np.random.default_rng(seed))
    steps = [Step(n * _STEP_S, rate, rtt) for n, (rate, rtt) in enumerate(links)]
    return LinkTrace(name, [*steps, Step(len(links) * _STEP_S, *links[-1])])
