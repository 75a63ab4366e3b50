"""Compares two reports: which figures got worse, and by more than their repeats vary."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rich.console import Console

from spillover.common.errors import SourceError
from spillover.lab.loadtest.baselines import BYTES
from spillover.lab.loadtest.measures import MEASURES, Better
from spillover.lab.loadtest.report.load_report import write_comparison_page
from spillover.lab.loadtest.results import Report, Summary
from spillover.lab.terminal import table

TOLERANCE = 0.05
"""Smaller changes, as a share of the old figure, are noise even where the intervals are apart."""
SINGLE_TOLERANCE = 0.25
"""The same for figures of a single run, which come without an interval."""
SINGLE_POINTS = MappingProxyType(
    {"on_time_share": 0.02}
    | dict.fromkeys(("agreement", "final_agreement", "streaming", "accuracy", "idf1"), 0.03)
)
"""What matters most in a single run: shares of all frames, and by how much they may change."""
SINGLE_BYTES = 0.1
"""The same for bytes, as a share of the old figure."""

SINGLE_RUN = (
    "Some of these figures are of one run, which cannot show a difference from chance: set repeats to 3 or "
    "more. Of those, changes are listed of what was on time beyond 2 points, of quality beyond 3 points, of "
    f"bytes up beyond {SINGLE_BYTES:.0%}, and of others beyond {SINGLE_TOLERANCE:.0%}."
)


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one cell, before and after."""

    cell: str
    measure: str
    before: Summary
    after: Summary

    @property
    def share(self) -> float:
        """The change of the median as a share of the old one; infinite from 0."""
        moved = self.after.median - self.before.median
        return moved / abs(self.before.median) if self.before.median else float("inf") * (moved or 0.0)

    @property
    def is_single(self) -> bool:
        """One of the figures is of one run: nothing is known of how much it varies."""
        return min(self.before.repeats, self.after.repeats) == 1

    @property
    def _is_beyond_noise(self) -> bool:
        if not self.is_single:
            return abs(self.share) > TOLERANCE
        if (points := SINGLE_POINTS.get(self.measure)) is not None:
            return abs(self.after.median - self.before.median) > points
        return abs(self.share) > (SINGLE_BYTES if self.measure == BYTES else SINGLE_TOLERANCE)

    @property
    def verdict(self) -> str:
        """`worse`, `better` or empty: the intervals are apart, and the medians by more than the tolerance."""
        measure = MEASURES[self.measure]
        better = measure.better
        shown_alike = measure.show(self.before.median) == measure.show(self.after.median)
        apart = self.before.high < self.after.low or self.after.high < self.before.low
        if better is Better.NEITHER or not apart or shown_alike or not self._is_beyond_noise:
            return ""
        rose = self.after.median > self.before.median
        return "better" if rose == (better is Better.HIGHER) else "worse"


def changes(before: Report, after: Report) -> list[Change]:
    """Every figure that both reports have, in the order of the newer one.

    Raises:
        SourceError: no scenario, mode, link and number of edges is in both.
    """
    old = {cell.name: cell for cell in before.cells}
    if not any(cell.name in old for cell in after.cells):
        names = ["; ".join(cell.name for cell in report.cells) or "nothing" for report in (before, after)]
        raise SourceError(f"the reports have nothing in common: one has {names[0]}, the other {names[1]}")
    return [
        Change(cell.name, measure, old[cell.name].summary[measure], summary)
        for cell in after.cells
        if cell.name in old
        for measure, summary in cell.summary.items()
        if measure in old[cell.name].summary and measure in MEASURES
    ]


def print_changes(changed: Sequence[Change], console: Console) -> None:
    """The figures that moved; how many did not."""
    moved = [change for change in changed if change.verdict]
    headings = ("cell", "measure", "before", "after", "change", "")
    if moved:
        console.print(table(headings, map(_cells, moved), title="What changed", left=("measure", "")))
    if any(change.is_single for change in changed):
        console.print(SINGLE_RUN, highlight=False)
    console.print(f"{len(moved)} of {len(changed)} figures moved by more than their repeats vary")


def write_comparison(before: Report, after: Report, changed: Sequence[Change], path: Path) -> None:
    """All figures as a page, those that got worse first."""
    ordered = sorted(changed, key=lambda change: {"worse": 0, "better": 1, "": 2}[change.verdict])
    verdicts = [change.verdict for change in ordered]
    other_machine = before.host != after.host
    warning = SINGLE_RUN if any(change.is_single for change in changed) else ""
    rows = [_cells(change) for change in ordered]
    write_comparison_page(rows, verdicts, path, other_machine=other_machine, warning=warning)


def _cells(change: Change) -> list[str]:
    measure = MEASURES[change.measure]
    share = f"{change.share:+.1%}" if abs(change.share) < float("inf") else "from 0"
    medians = (measure.show(change.before.median), measure.show(change.after.median))
    return [change.cell, measure.title, *medians, share, change.verdict]
