"""The report as tables in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from lab.loadtest.measures import MEASURES
from lab.loadtest.results import Cell, GoalOutcome, Report

_COLUMNS = (
    ("p50", "first_p50_ms"),
    ("p99", "first_p99_ms"),
    ("final p99", "final_p99_ms"),
    ("in time", "on_time_share"),
    ("sent", "sent_share"),
    ("B/frame up", "up_bytes_per_frame"),
    ("agrees", "agreement"),
    ("right", "accuracy"),
    ("srv s/1000", "server_cpu_s_per_1000_frames"),
)


def print_report(report: Report, console: Console) -> None:
    """Figures first, then goals, then what a reader must know."""
    for scenario in dict.fromkeys(cell.scenario for cell in report.cells):
        _print_cells(scenario, [cell for cell in report.cells if cell.scenario == scenario], console)
    if report.goals:
        _print_goals(report.goals, console)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False)


def _print_cells(scenario: str, cells: Sequence[Cell], console: Console) -> None:
    repeats = len(cells[0].runs)
    table = Table(title=f"{scenario} (medians of {repeats}; latencies in ms)", title_justify="left")
    for heading in ("mode", "link", "edges"):
        table.add_column(heading)
    shown = [(h, m) for h, m in _COLUMNS if any(m in cell.summary for cell in cells)]
    for heading, _ in shown:
        table.add_column(heading, justify="right")
    for cell in cells:
        figures = [MEASURES[m].show(cell.figure(m)).removesuffix(MEASURES[m].unit).strip() for _, m in shown]
        units = [
            "%" if MEASURES[m].unit == "%" and f != "-" else ""
            for f, (_, m) in zip(figures, shown, strict=True)
        ]
        row = [f + u for f, u in zip(figures, units, strict=True)]
        table.add_row(cell.mode, cell.link, str(cell.edges), *row)
    console.print(table)


def _print_goals(goals: Sequence[GoalOutcome], console: Console) -> None:
    table = Table(title="Goals", title_justify="left")
    for heading in ("goal", "measured", "met"):
        table.add_column(heading)
    words = {True: "yes", False: "no", None: "?"}
    for goal in goals:
        table.add_row(goal.text, goal.figure if not goal.note else goal.note, words[goal.met])
    console.print(table)
