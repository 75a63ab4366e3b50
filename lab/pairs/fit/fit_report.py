"""A fit as a table and as a plot: the share of the gap closed with its interval."""

from pathlib import Path

from spillover.lab.pairs.evaluate.accuracy_curve import JUDGED, verdict
from spillover.lab.pairs.evaluate.evaluation_report import save_lines
from spillover.lab.pairs.fit.fitting import Fit
from spillover.lab.terminal import open_console, table


def print_fit(fit: Fit) -> None:
    """One row a policy, one column a share sent; then what follows from it."""
    headings, rows = fit_cells(fit)
    made = table(
        headings,
        rows,
        title=f"{fit.file.edge.model} -> {fit.file.cloud_model}, {fit.file.pictures} pictures, cross-fitted",
        caption=f"{fit.metric}: edge {fit.edge_accuracy:.3f}, cloud {fit.cloud_accuracy:.3f}; share of the "
        "gap closed in %, with 95 % bootstrap interval",
    )
    console = open_console()
    console.print(made)
    console.print(_verdict(fit))


def _verdict(fit: Fit) -> str:
    """Which policy to take."""
    policies = fit.curves.keys() - {"random", "oracle"}
    best = max(sorted(policies), key=lambda name: fit.curves[name][JUDGED].accuracy)
    ends = fit.edge_accuracy, fit.cloud_accuracy
    otherwise = "Fit on more pictures, or take another pair."
    return verdict(best, fit.curves, fit.intervals[best][JUDGED], ends, otherwise)


def fit_cells(fit: Fit) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table, without the trivial shares of 0 and 100 %."""
    headings = ["policy", *(f"{point.offload:.0%}" for point in fit.curves["random"][1:-1])]
    rows = []
    for name, curve in fit.curves.items():
        points = zip(curve[1:-1], fit.intervals[name][1:-1], strict=True)
        rows.append([name, *(_cell(p.gap_share, i.low, i.high) for p, i in points)])
    return headings, rows


def _cell(share: float | None, low: float | None, high: float | None) -> str:
    if share is None:
        return "-"
    if low is None or high is None or low == high:
        return f"{100 * share:.0f}"
    return f"{100 * share:.0f} ({100 * low:.0f}..{100 * high:.0f})"


def save_fit_plot(fit: Fit, path: Path) -> None:
    """Share of the gap closed over the share sent; the intervals are shaded."""
    lines = {name: [100 * (p.gap_share or 0) for p in curve] for name, curve in fit.curves.items()}
    bands = {
        name: ([100 * (i.low or 0) for i in intervals], [100 * (i.high or 0) for i in intervals])
        for name, intervals in fit.intervals.items()
    }
    title = f"{fit.file.edge.model} → {fit.file.cloud_model}, cross-fitted"
    save_lines(path, lines, bands, ylabel="share of the gap closed, %", title=title)
