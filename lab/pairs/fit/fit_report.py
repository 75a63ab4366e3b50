"""A fit as a table and as a plot: the share of the gap closed with its interval."""

from pathlib import Path

from spillover.lab.pairs.fit.fitting import Fit
from spillover.lab.terminal import open_console, table


def print_fit(fit: Fit) -> None:
    """One row a policy, one column a share sent."""
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
    if fit.cloud_accuracy <= fit.edge_accuracy:
        console.print("The cloud is no better than the edge on these pictures: there is no gap to close.")


def fit_cells(fit: Fit) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table, without the two shares that say nothing: none sent, and all."""
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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in fit.curves.items():
        x = [100 * p.offload for p in curve]
        style = {"oracle": "k--", "random": "k:"}.get(name, "o-")
        (line,) = axes.plot(x, [100 * (p.gap_share or 0) for p in curve], style, label=name, markersize=4)
        if style == "o-":
            low, high = zip(
                *((100 * (i.low or 0), 100 * (i.high or 0)) for i in fit.intervals[name]), strict=True
            )
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.08, linewidth=0)
    axes.set(xlabel="pictures sent to the cloud, %", ylabel="share of the gap closed, %")
    axes.set_title(f"{fit.file.edge.model} → {fit.file.cloud_model}, cross-fitted", fontsize=11)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
