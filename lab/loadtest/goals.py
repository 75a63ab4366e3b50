"""Judges the goals of load.yaml by the medians of the cells."""

from collections.abc import Sequence

from spillover.lab.loadtest.baselines import BYTES, NEARLY_ALL
from spillover.lab.loadtest.config import GoalConfig
from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.results import Cell, GoalOutcome

_BYTES = frozenset({BYTES, "payload_bytes_per_frame"})


def judge(goals: Sequence[GoalConfig], cells: Sequence[Cell], notes: Sequence[str]) -> list[GoalOutcome]:
    """One outcome for every goal and cell it concerns; for a goal without a cell, one with the reason."""
    outcomes: list[GoalOutcome] = []
    for goal in goals:
        mine = [c for c in cells if (c.scenario, c.mode) == (goal.scenario, goal.mode)]
        if mine:
            outcomes += [_judge_cell(goal, cell, cells) for cell in mine]
        else:
            why = next((note for note in notes if f"scenario {goal.scenario} " in note), "was not run")
            outcomes.append(GoalOutcome(_text(goal), "-", None, why))
    return outcomes


def _judge_cell(goal: GoalConfig, cell: Cell, cells: Sequence[Cell]) -> GoalOutcome:
    text = f"{_text(goal)} ({cell.link}, {cell.edges} edge{'s' if cell.edges > 1 else ''})"
    figure, other, base = (
        _figure(goal.measure, cells, cell, mode) for mode in (goal.mode, goal.times, goal.gap_from)
    )
    measure = MEASURES[goal.measure]
    if figure is None or (goal.times and other is None) or (goal.gap_from and base is None):
        return GoalOutcome(text, "-", None, "not measured")
    if goal.gap_from:
        assert other is not None  # noqa: S101 - the configuration demands `times` beside `gap_from`
        assert base is not None  # noqa: S101 - returned above
        if other <= base:
            return GoalOutcome(text, "-", None, f"{goal.times} is no better than {goal.gap_from}: no gap")
        share = (figure - base) / (other - base)
        return GoalOutcome(text, f"{share:.1%}", _met(goal, share))
    if goal.times:
        if not other:
            return GoalOutcome(text, "-", None, f"{goal.times} has 0 there")
        shown = f"{figure / other:.2%} ({measure.show(figure)} of {measure.show(other)}"
        shown += f"{_held_back(goal, cell, cells)})"
        return GoalOutcome(text, shown, _met(goal, figure / other))
    return GoalOutcome(text, measure.show(figure), _met(goal, figure))


def _held_back(goal: GoalConfig, cell: Cell, cells: Sequence[Cell]) -> str:
    """That a baseline of bytes could not send everything, so that this share is of less."""
    sent = _figure("sent_share", cells, cell, goal.times)
    if goal.measure not in _BYTES or sent is None or sent >= NEARLY_ALL:
        return ""
    return f", which is {sent:.0%} of its frames"


def _met(goal: GoalConfig, figure: float) -> bool:
    if goal.at_most is not None:
        return figure <= goal.at_most
    return goal.at_least is not None and figure >= goal.at_least


def _figure(name: str, cells: Sequence[Cell], beside: Cell, mode: str) -> float | None:
    """The figure of `mode` in the same scenario, over the same link, with the same number of edges."""
    where = (beside.scenario, mode, beside.link, beside.edges)
    return next((c.figure(name) for c in cells if (c.scenario, c.mode, c.link, c.edges) == where), None)


def _text(goal: GoalConfig) -> str:
    measure = MEASURES[goal.measure]
    word, limit = ("at most", goal.at_most) if goal.at_most is not None else ("at least", goal.at_least)
    assert limit is not None  # noqa: S101 - the configuration demands one of the two
    if goal.gap_from:
        shown = f"{limit:.0%} of the gap from {goal.gap_from} to {goal.times}"
    elif goal.times:
        shown = f"{limit:.0%} of {goal.times}'s"
    else:
        shown = measure.show(limit)
    return f"{goal.scenario}: {goal.mode}, {measure.title}: {word} {shown}"
