"""Two reports side by side: which figures got worse, and by more than their repeats vary."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from spillover.common.errors import SourceError
from spillover.lab.loadtest.measures import MEASURES, Better
from spillover.lab.loadtest.report.html import Column, Content, element, page, table
from spillover.lab.loadtest.results import Report
from spillover.lab.loadtest.stats import Summary

TOLERANCE = 0.05
"""Changes smaller than this share are noise, whatever the intervals say."""
SINGLE_TOLERANCE = 0.25
"""The same for figures of a single run, which come without an interval."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one cell, before and after."""

    cell: str
    measure: str
    before: Summary
    after: Summary

    @property
    def share(self) -> float:
        """How far the median moved, as a share of what it was; infinite from 0."""
        moved = self.after.median - self.before.median
        return moved / abs(self.before.median) if self.before.median else float("inf") * (moved or 0.0)

    @property
    def verdict(self) -> str:
        """`worse`, `better` or empty: the intervals are apart, and the medians by more than the tolerance."""
        way = MEASURES[self.measure].better
        apart = self.before.high < self.after.low or self.after.high < self.before.low
        single = min(self.before.repeats, self.after.repeats) == 1
        if (
            way is Better.NEITHER
            or not apart
            or abs(self.share) <= (SINGLE_TOLERANCE if single else TOLERANCE)
        ):
            return ""
        rose = self.after.median > self.before.median
        return "better" if rose == (way is Better.HIGHER) else "worse"


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


def print_changes(found: Sequence[Change], console: Console) -> None:
    """What moved; how many figures did not."""
    moved = [change for change in found if change.verdict]
    shown = Table(title="What changed", title_justify="left")
    for heading in ("cell", "measure", "before", "after", "change", ""):
        shown.add_column(heading)
    for change in moved:
        shown.add_row(*_texts(change), change.verdict)
    if moved:
        console.print(shown)
    console.print(f"{len(moved)} of {len(found)} figures moved by more than their repeats vary")


def write_comparison(before: Report, after: Report, found: Sequence[Change], path: Path) -> None:
    """All figures as a page, regressions marked."""
    path.write_text(page("Two load tests compared", *_contents(before, after, found)), encoding="utf-8")


def _contents(before: Report, after: Report, found: Sequence[Change]) -> Iterator[Content]:
    yield element("h1", "Two load tests compared")
    if before.host != after.host:
        yield element("p", "The machines differ; figures of time do not compare.", css="missed")
    worse = sum(change.verdict == "worse" for change in found)
    yield element(
        "p", f"{worse} of {len(found)} figures are worse by more than their repeats vary.", css="lead"
    )
    columns = [Column("cell", text=True), Column("measure", text=True), Column("before"), Column("after")]
    columns += [Column("change"), Column("", text=True)]
    ordered = sorted(found, key=lambda change: {"worse": 0, "better": 1, "": 2}[change.verdict])
    rows = [[*_texts(change), change.verdict] for change in ordered]
    yield table(columns, rows, [change.verdict for change in ordered])


def _texts(change: Change) -> list[str]:
    measure = MEASURES[change.measure]
    share = f"{change.share:+.1%}" if abs(change.share) < float("inf") else "from 0"
    return [
        change.cell,
        measure.title,
        measure.show(change.before.median),
        measure.show(change.after.median),
        share,
    ]
