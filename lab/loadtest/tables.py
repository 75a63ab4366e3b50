"""The report as tables in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.results import Cell, GoalOutcome, Report

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
    """One row a cell; what is the same in all rows is in the title instead."""
    places = [("link", [cell.link for cell in cells]), ("edges", [str(cell.edges) for cell in cells])]
    same = [f"{name} {values[0]}" for name, values in places if len(set(values)) == 1]
    differ = [(name, values) for name, values in places if len(set(values)) > 1]
    repeats = f"medians of {len(cells[0].runs)}" if len(cells[0].runs) > 1 else "one run"
    table = Table(title=f"{scenario}: {', '.join([*same, repeats, 'latencies in ms'])}", title_justify="left")
    table.add_column("mode", no_wrap=True)
    for name, _ in differ:
        table.add_column(name, no_wrap=True)
    shown = [(heading, m) for heading, m in _COLUMNS if any(m in cell.summary for cell in cells)]
    for heading, _ in shown:
        table.add_column(heading, justify="right")
    for row, cell in enumerate(cells):
        figures = [_short(m, cell.figure(m)) for _, m in shown]
        table.add_row(cell.mode, *(values[row] for _, values in differ), *figures)
    console.print(table)


def _short(name: str, figure: float | None) -> str:
    """The figure without its unit, which the heading implies; shares keep their sign."""
    measure = MEASURES[name]
    text = measure.show(figure)
    return text if measure.unit == "%" else text.removesuffix(measure.unit).strip()


def _print_goals(goals: Sequence[GoalOutcome], console: Console) -> None:
    table = Table(title="Goals", title_justify="left")
    for heading in ("goal", "measured", "met"):
        table.add_column(heading)
    words = {True: "yes", False: "no", None: "?"}
    for goal in goals:
        table.add_row(goal.text, goal.figure if not goal.note else goal.note, words[goal.met])
    console.print(table)
