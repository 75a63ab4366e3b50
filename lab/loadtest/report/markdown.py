"""report.md: the first page as Markdown, for pasting into a mail or an issue."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from spillover.lab.files import write_whole
from spillover.lab.loadtest.report.first_page import first_page
from spillover.lab.loadtest.results import GoalOutcome, Report

_MET = {True: "met", False: "**missed**", None: "not measured"}


def write_markdown(report: Report, path: Path) -> None:
    """Write report.md. Raises SpilloverError."""
    write_whole(path, ("\n".join(_lines(report)) + "\n").encode())


def _lines(report: Report) -> Iterator[str]:
    page = first_page(report)
    yield f"# Load test of {report.started} UTC"
    for table in page.tables:
        first, *others = map(_escaped, table.sentences)
        yield from ("", f"## {table.title}", "", f"**{first}**", "", *(f"- {text}" for text in others), "")
        yield from _table(table.headings, table.rows)
    yield from ("", _escaped(page.basis), "")
    yield from (f"- *{word}*: {_escaped(meaning)}" for word, meaning in page.glossary)
    if report.goals:
        yield from ("", "## Goals", "")
        yield from _table(("goal", "measured", ""), [_goal(goal) for goal in report.goals])
    if report.notes:
        yield from ("", "## Notes", "")
        yield from (f"- {_escaped(note)}" for note in report.notes)


def _goal(goal: GoalOutcome) -> list[str]:
    return [goal.text, goal.shown, _MET[goal.met]]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    yield from (f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows)


def _escaped(text: str) -> str:
    """Text that is no markup, on one line. Bold is this file's own."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
