"""The report as tables in the terminal."""

from collections.abc import Sequence

from rich.console import Console

from spillover.lab.loadtest.baselines import BYTES, baselines, share_shown
from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.report.first_page import first_page
from spillover.lab.loadtest.report.fleets import fleet_table
from spillover.lab.loadtest.results import Cell, GoalOutcome, Report
from spillover.lab.terminal import table

_SPENT = (
    ("p50", "first_p50_ms"),
    ("p99", "first_p99_ms"),
    ("on time", "on_time_share"),
    ("degraded", "degraded_share"),
    ("B/frame up", BYTES),
    ("srv s/1000", "server_cpu_s_per_1000_frames"),
)
_ASKED = (
    ("wanted", "wanted_share"),
    ("offered", "offered_share"),
    ("sent", "sent_share"),
    ("answered", "answered_share"),
    ("in time", "in_time_share"),
    ("ideal", "ideal_in_time_share"),
    ("of sent", "sent_in_time_share"),
)
_SHOWN = (
    ("agrees", "agreement"),
    ("streaming", "streaming"),
    ("right", "accuracy"),
    ("confirmed", "confirmed_share"),
    ("objects", "tracks"),
    ("delay s", "detection_delay_s"),
    ("IDF1", "idf1"),
    ("switches", "switches"),
)
_ON_THE_PAGE = frozenset({"confirmed", "GB up", "GB down", "data", "SIM", "device", "server", "power", "kWh"})
"""Columns of a month that a log has no width for."""
_MOST_COLUMNS = 11
"""More do not fit into the width of a log: then the next columns begin a table of their own."""


def print_report(report: Report, console: Console) -> None:
    """Figures first, then goals and notes, and last what stays in view: the verdicts."""
    for scenario in dict.fromkeys(cell.scenario for cell in report.cells):
        cells = [cell for cell in report.cells if cell.scenario == scenario]
        _print_cells(scenario, cells, baselines(cells, report.config), console)
    if report.fleet:
        headings, rows = fleet_table(report.fleet, report.config["buyer"]["currency"])
        console.print(table(headings, rows, title=f"Larger fleets, extrapolated: {report.fleet.mode}"))
    for one in report.capacity:
        failed = "none that was tried failed" if one.failed is None else f"{one.failed:,} were not"
        held = f"{one.held:,} edges held ({one.held_per_s:,.1f} requests/s), {failed}"
        console.print(f"capacity of {one.mode} over {one.link}: {held}", highlight=False)
    if report.goals:
        _print_goals(report.goals, console)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False)
    page = first_page(report)
    for verdict in page.tables:
        kept = [n for n, heading in enumerate(verdict.headings) if heading not in _ON_THE_PAGE]
        rows = [[row[n] for n in kept] for row in verdict.rows]
        headings = [verdict.headings[n] for n in kept]
        console.print(table(headings, rows, title=f"{verdict.title}: a camera and month", left=("",)))
        for sentence in verdict.sentences:
            console.print(sentence, highlight=False)
    if not page.tables:
        console.print(page.basis, highlight=False)


def _print_cells(scenario: str, cells: Sequence[Cell], wholes: Sequence[str], console: Console) -> None:
    """One row a cell, its bytes beside those of each mode of `wholes`; common values are in the title."""
    places = [("link", [cell.link for cell in cells]), ("edges", [str(cell.edges) for cell in cells])]
    same = [f"{name} {values[0]}" for name, values in places if len(set(values)) == 1]
    first = {"mode": [cell.mode for cell in cells]}
    first |= {name: values for name, values in places if len(set(values)) > 1}
    spent, shown = _columns(_SPENT, cells), _columns(_SHOWN, cells)
    for whole in wholes:
        spent[f"of {whole.replace('_', ' ')}"] = [share_shown(cell, whole, cells) for cell in cells]
    repeats = f"medians of {len(cells[0].runs)}" if len(cells[0].runs) > 1 else "one run"
    title = f"{scenario}: {', '.join([*same, repeats, 'latencies in ms'])}"
    tables = [(title, first | spent)]
    parts = (
        ("what the cloud was asked, % of all frames", _columns(_ASKED, cells)),
        ("what was shown", shown),
    )
    for part, columns in parts:
        if len(tables[-1][1]) + len(columns) <= _MOST_COLUMNS:
            tables[-1][1].update(columns)
        else:
            tables.append((f"{scenario}: {part}", first | columns))
    for heading, columns in tables:
        rows = zip(*columns.values(), strict=True)
        console.print(table(tuple(columns), rows, title=heading, left=("link", "edges")))


def _columns(measures: Sequence[tuple[str, str]], cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Those that any cell has, by their headings."""
    return {
        heading: [_short(measure, cell.figure(measure)) for cell in cells]
        for heading, measure in measures
        if any(measure in cell.summary for cell in cells)
    }


def _short(name: str, figure: float | None) -> str:
    """The figure without its unit, which the heading implies; shares keep their sign."""
    measure = MEASURES[name]
    text = measure.show(figure)
    return text if measure.unit == "%" else text.removesuffix(measure.unit).strip()


def _print_goals(goals: Sequence[GoalOutcome], console: Console) -> None:
    words = {True: "yes", False: "no", None: "?"}
    rows = [(goal.text, goal.shown, words[goal.met]) for goal in goals]
    console.print(
        table(("goal", "measured", "met"), rows, title="Goals", left=("measured", "met"), wrap=True)
    )
