"""An evaluation as a table on the terminal and as a plot in a file."""

from pathlib import Path

from spillover.lab.pairs.evaluate.evaluation import Evaluation
from spillover.lab.terminal import open_console, table

_METRICS = {"top1": "top-1 accuracy", "map": "mAP (IoU 0.50:0.95)"}


def print_table(evaluation: Evaluation) -> None:
    """One row a policy: the share of the gap between edge and cloud that is closed, by share sent."""
    made = table(
        ("policy", *(f"{point.offload:.0%}" for point in evaluation.curves["random"])),
        ((name, *(_share(p.gap_share) for p in curve)) for name, curve in evaluation.curves.items()),
        title=f"{evaluation.edge_model} -> {evaluation.cloud_model}, {evaluation.pictures} pictures",
        caption=f"{_METRICS[evaluation.metric]}: edge {evaluation.edge_accuracy:.3f}, "
        f"cloud {evaluation.cloud_accuracy:.3f}; share of the gap closed, by share of pictures sent",
    )
    open_console().print(made)


def _share(gap_share: float | None) -> str:
    return "-" if gap_share is None else f"{gap_share:.0%}"


def save_plot(evaluation: Evaluation, path: Path) -> None:
    """Accuracy over the share sent, one line a policy; oracle and random are dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in evaluation.curves.items():
        style = {"oracle": "k--", "random": "k:"}.get(name, "o-")
        shares, accuracies = [100 * p.offload for p in curve], [p.accuracy for p in curve]
        axes.plot(shares, accuracies, style, label=name, linewidth=1.6, markersize=4)
    axes.set(xlabel="pictures sent to the cloud, %", ylabel=_METRICS[evaluation.metric])
    axes.set_title(f"{evaluation.edge_model} → {evaluation.cloud_model} on {evaluation.data}", fontsize=11)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
