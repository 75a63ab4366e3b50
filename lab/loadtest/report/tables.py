"""The report as tables in the terminal."""

from collections.abc import Sequence

from rich.console import Console

from spillover.lab.loadtest.baselines import BYTES, baselines, share_shown
from spillover.lab.loadtest.measures import MEASURES
from spillover.lab.loadtest.results import Cell, GoalOutcome, Report
from spillover.lab.terminal import table

_COLUMNS = (
    ("p50", "first_p50_ms"),
    ("p99", "first_p99_ms"),
    ("in time", "on_time_share"),
    ("sent", "sent_share"),
    ("B/frame up", BYTES),
    ("agrees", "agreement"),
    ("streaming", "streaming"),
    ("right", "accuracy"),
    ("confirmed", "confirmed_share"),
    ("srv s/1000", "server_cpu_s_per_1000_frames"),
)


def print_report(report: Report, console: Console) -> None:
    """Figures first, then goals, then notes."""
    for scenario in dict.fromkeys(cell.scenario for cell in report.cells):
        cells = [cell for cell in report.cells if cell.scenario == scenario]
        _print_cells(scenario, cells, baselines(cells, report.config), console)
    if report.goals:
        _print_goals(report.goals, console)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False)


def _print_cells(scenario: str, cells: Sequence[Cell], wholes: Sequence[str], console: Console) -> None:
    """One row a cell, its bytes beside those of each mode of `wholes`; common values are in the title."""
    places = [("link", [cell.link for cell in cells]), ("edges", [str(cell.edges) for cell in cells])]
    same = [f"{name} {values[0]}" for name, values in places if len(set(values)) == 1]
    differ = [(name, values) for name, values in places if len(set(values)) > 1]
    repeats = f"medians of {len(cells[0].runs)}" if len(cells[0].runs) > 1 else "one run"
    shown = [(heading, m) for heading, m in _COLUMNS if any(m in cell.summary for cell in cells)]
    rows = [
        [
            cell.mode,
            *(values[row] for _, values in differ),
            *(_short(m, cell.figure(m)) for _, m in shown),
            *(share_shown(cell, whole, cells) for whole in wholes),
        ]
        for row, cell in enumerate(cells)
    ]
    headings = ["mode", *(name for name, _ in differ), *(heading for heading, _ in shown)]
    headings += [f"of {whole}" for whole in wholes]
    title = f"{scenario}: {', '.join([*same, repeats, 'latencies in ms'])}"
    console.print(table(headings, rows, title=title, left=("link", "edges")))


def _short(name: str, figure: float | None) -> str:
    """The figure without its unit, which the heading implies; shares keep their sign."""
    measure = MEASURES[name]
    text = measure.show(figure)
    return text if measure.unit == "%" else text.removesuffix(measure.unit).strip()


def _print_goals(goals: Sequence[GoalOutcome], console: Console) -> None:
    words = {True: "yes", False: "no", None: "?"}
    rows = [(goal.text, goal.note or goal.figure, words[goal.met]) for goal in goals]
    console.print(
        table(("goal", "measured", "met"), rows, title="Goals", left=("measured", "met"), wrap=True)
    )
