"""The answers of a load test: a verdict for each scenario, link and number of cameras."""

from collections.abc import Iterator, Sequence

from spillover.lab.loadtest.answer.choice import choose, closest, judged, what_binds
from spillover.lab.loadtest.answer.months import month_of
from spillover.lab.loadtest.answer.parts import Verdict
from spillover.lab.loadtest.answer.words import Words
from spillover.lab.loadtest.config import EdgeKind, LoadConfig
from spillover.lab.loadtest.results import Cell, by_place

_MEASURES = ("accuracy", "agreement")


def verdicts_of(cells: Sequence[Cell], config: LoadConfig) -> list[Verdict]:
    """One for each scenario that the buyer asks about, link and number of edges, as the cells are ordered."""
    asked = config.buyer.scenarios or tuple(config.scenarios)
    real = [cell for cell in cells if cell.kind == EdgeKind.REAL.value and cell.scenario in asked]
    return [verdict for group in by_place(real) for verdict in _verdict(group, config)]


def _verdict(cells: Sequence[Cell], config: LoadConfig) -> Iterator[Verdict]:
    """The verdict of one place; none where nothing judges its answers."""
    measure = next((name for name in _MEASURES if all(name in cell.summary for cell in cells)), None)
    if measure is None:
        return
    months = [judged(month_of(cell, measure, config), config.buyer) for cell in cells]
    chosen = choose(months)
    taken = chosen or closest(months)
    by_mode = {cell.mode: cell for cell in cells}
    binds, better = what_binds(taken, months, by_mode)
    first = cells[0]
    fps = config.scenarios[first.scenario].fps
    cameras = "1 camera" if first.edges == 1 else f"{first.edges} cameras"
    where = f"{first.link} ({first.scenario}, {cameras} at {fps:g} frames a second)"
    absent = [mode for mode in config.scenarios[first.scenario].modes if mode not in by_mode]
    words = Words(config.buyer, measure, months, by_mode, absent)
    yield Verdict(
        scenario=first.scenario,
        link=first.link,
        edges=first.edges,
        measure=measure,
        months=months,
        chosen=chosen.mode if chosen else None,
        binds=binds,
        sentences=list(words.verdict(where, taken, binds, better)),
    )
