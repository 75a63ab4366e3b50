"""The links of the benchmark: constant ones, those of `lab replay`, and more that change."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np

from spillover.lab.pairs.replay.trace import DURATION_S, MODELS, LinkTrace, Step, model_trace

RATES_MBIT_PER_S = (0.5, 1.0, 2.0, 5.0, 20.0)
ROUND_TRIPS_S = (0.01, 0.05, 0.2, 0.6)
PICTURE_BYTES = (12_000.0, 43_000.0, 120_000.0)
UNSEEN_SEEDS = range(6, 12)
"""Settings of the rule were chosen on links with the seeds 0 to 5; figures are those of these."""
_STEP_S = 0.5


def constant_link(mbit_per_s: float, round_trip_s: float) -> LinkTrace:
    """A link that never changes."""
    name = f"{mbit_per_s:g} Mbit/s, {round_trip_s * 1e3:.0f} ms"
    rate = mbit_per_s * 1e6 / 8
    steps = [Step(at_s, rate, round_trip_s) for at_s in (0.0, DURATION_S)]
    return LinkTrace(name, steps)


def constant_links() -> Iterator[tuple[LinkTrace, float]]:
    """Every rate, round trip and size of a picture."""
    for mbit, round_trip_s, size in itertools.product(RATES_MBIT_PER_S, ROUND_TRIPS_S, PICTURE_BYTES):
        yield constant_link(mbit, round_trip_s), size


def steps(random: np.random.Generator) -> list[tuple[float, float]]:
    """Another rate between 0.5 and 8 Mbit/s every 5 to 30 s: others come and go on the same line."""
    out: list[tuple[float, float]] = []
    while len(out) < DURATION_S / _STEP_S:
        rate = float(np.exp(random.uniform(np.log(6e4), np.log(1e6))))
        out += [(rate, 0.04)] * int(random.uniform(5, 30) / _STEP_S)
    return out[: int(DURATION_S / _STEP_S)]


def train(random: np.random.Generator) -> list[tuple[float, float]]:
    """Mobile uplink from a train: fast and slow cells, and a tunnel of 3 to 20 s every minute or two."""
    out: list[tuple[float, float]] = []
    while len(out) < DURATION_S / _STEP_S:
        for _ in range(random.integers(3, 7)):
            rate = float(random.choice([1.5e5, 4e5, 1.2e6]))
            out += [
                (rate * float(random.uniform(0.8, 1.2)), 0.06 + float(random.exponential(0.02)))
                for _ in range(int(random.uniform(10, 30) / _STEP_S))
            ]
        out += [(0.0, 0.06)] * int(random.uniform(3, 20) / _STEP_S)
    return out[: int(DURATION_S / _STEP_S)]


def evening(random: np.random.Generator) -> list[tuple[float, float]]:
    """A line that fills and empties within two minutes, with a round trip that grows as it fills."""
    at_s = np.arange(0, DURATION_S, _STEP_S)
    level = 0.5 + 0.4 * np.sin(2 * np.pi * (at_s / 120 + random.random()))
    rate = 5e5 * level * random.uniform(0.85, 1.15, at_s.size)
    round_trip_s = 0.02 + 0.05 * (1 - level) * random.exponential(1, at_s.size)
    return list(zip(rate.tolist(), round_trip_s.tolist(), strict=True))


MORE: Mapping[str, Callable[[np.random.Generator], list[tuple[float, float]]]] = MappingProxyType(
    {"steps": steps, "train": train, "evening": evening}
)
"""Kinds of links that `lab replay` does not have."""


def varying_link(name: str, seed: int) -> LinkTrace:
    """Ten minutes of a modelled link, by name."""
    if name in MODELS:
        return model_trace(name, seed)
    links = MORE[name](np.random.default_rng(seed))
    lines = [Step(n * _STEP_S, rate, rtt) for n, (rate, rtt) in enumerate(links)]
    return LinkTrace(name, [*lines, Step(DURATION_S, *links[-1])])
