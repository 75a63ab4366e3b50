"""Sweeps: modes that differ in keys of edge.yaml, beside the modes that they come from."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from spillover.lab.files import merged, nested
from spillover.lab.loadtest.config import LoadConfig, SweepConfig
from spillover.lab.loadtest.results import Cell, by_place

_ALIKE = 0.005
"""Points whose shares of frames sent differ by less, and whose quality does, are one."""


def with_swept_modes(test: LoadConfig) -> LoadConfig:
    """The test with the modes of its sweep among those of its scenario, to be run as any other."""
    if test.sweep is None:
        return test
    added = _modes(test.modes, test.sweep)
    swept = test.scenarios[test.sweep.scenario]
    modes = tuple(dict.fromkeys((*swept.modes, *added)))
    scenarios = test.scenarios | {test.sweep.scenario: msgspec.structs.replace(swept, modes=modes)}
    return msgspec.structs.replace(test, modes=test.modes | added, scenarios=scenarios)


def alike(cells: Sequence[Cell], sweep: SweepConfig, test: LoadConfig) -> Iterator[str]:
    """Notes on points of the sweep that came out as one."""
    swept = _modes(test.modes, sweep)
    mine = [cell for cell in cells if cell.scenario == sweep.scenario and cell.mode in swept]
    for here in by_place(mine):
        if len(here) > 1 and all(_spread(here, name) < _ALIKE for name in ("sent_share", "agreement")):
            keys, modes = ", ".join(sweep.values), ", ".join(cell.mode for cell in here)
            yield (
                f"sweep of {keys} over {here[0].link}: {modes} came out alike: the values change nothing "
                "that this window shows"
            )


def _modes(modes: Mapping[str, Mapping[str, Any]], sweep: SweepConfig) -> dict[str, dict[str, Any]]:
    added = {}
    for mode, values in itertools.product(sweep.modes, itertools.product(*sweep.values.values())):
        changes = [nested(key, value) for key, value in zip(sweep.values, values, strict=True)]
        added[f"{mode}-{'-'.join(map(_name, values))}"] = merged(modes[mode], *changes)
    return added


def _name(value: float | str) -> str:
    """A value as a part of a mode's name."""
    return re.sub(r"[^A-Za-z0-9._]", "_", value if isinstance(value, str) else f"{value:g}")


def _spread(cells: Sequence[Cell], name: str) -> float:
    figures = [cell.figure(name) or 0.0 for cell in cells]
    return max(figures) - min(figures)
