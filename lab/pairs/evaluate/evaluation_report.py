"""An evaluation as a table on the terminal and as a plot in a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from spillover.lab.pairs.evaluate.accuracy_curve import SHARES
from spillover.lab.pairs.evaluate.evaluation import Evaluation
from spillover.lab.terminal import open_console, table

_METRICS = {"top1": "top-1 accuracy", "map": "mAP (IoU 0.50:0.95)"}


def print_table(evaluation: Evaluation) -> None:
    """One row a policy: the share of the gap that is closed, by share sent; then what follows from it."""
    made = table(
        ("policy", *(f"{point.offload:.0%}" for point in evaluation.curves["random"])),
        ((name, *(_share(p.gap_share) for p in curve)) for name, curve in evaluation.curves.items()),
        title=f"{evaluation.edge_model} -> {evaluation.cloud_model}, {evaluation.pictures} pictures",
        caption=f"{_METRICS[evaluation.metric]}: edge {evaluation.edge_accuracy:.3f}, "
        f"cloud {evaluation.cloud_accuracy:.3f}; share of the gap closed, by share of pictures sent",
    )
    console = open_console()
    console.print(made)
    console.print(evaluation.verdict())


def _share(gap_share: float | None) -> str:
    return "-" if gap_share is None else f"{gap_share:.0%}"


def save_plot(evaluation: Evaluation, path: Path) -> None:
    """Accuracy over the share sent, one line a policy; oracle and random are dashed."""
    lines = {name: [point.accuracy for point in curve] for name, curve in evaluation.curves.items()}
    title = f"{evaluation.edge_model} → {evaluation.cloud_model} on {evaluation.data}"
    save_lines(path, lines, {}, ylabel=_METRICS[evaluation.metric], title=title)


def save_lines(
    path: Path,
    lines: Mapping[str, Sequence[float]],
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    ylabel: str,
    title: str,
) -> None:
    """A plot of one line a policy over the share sent; solid lines have their bands (low, high) shaded."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    shares = [100 * share for share in SHARES]
    for name, line in lines.items():
        style = {"oracle": "k--", "random": "k:"}.get(name, "o-")
        (drawn,) = axes.plot(shares, line, style, label=name, markersize=4)
        if name in bands and style == "o-":
            axes.fill_between(shares, *bands[name], color=drawn.get_color(), alpha=0.08, linewidth=0)
    axes.set(xlabel="pictures sent to the cloud, %", ylabel=ylabel)
    axes.set_title(title, fontsize=11)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
