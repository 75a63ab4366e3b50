"""An evaluation for people: a table on the terminal and a plot in a file."""

from pathlib import Path

from spillover.lab.pairs.evaluate.curve import Curve
from spillover.lab.pairs.evaluate.run import Evaluation

_METRICS = {"top1": "top-1 accuracy", "map": "mAP (IoU 0.50:0.95)"}


def print_table(evaluation: Evaluation) -> None:
    """One row a policy: the share of the gap between edge and cloud that is closed, by share sent."""
    from rich.table import Table

    from spillover.lab.console import open_console

    metric = _METRICS[evaluation.metric]
    table = Table(
        title=f"{evaluation.edge_model} -> {evaluation.cloud_model}, {evaluation.pictures} pictures",
        caption=f"{metric}: edge {evaluation.edge_accuracy:.3f}, cloud {evaluation.cloud_accuracy:.3f}; "
        "share of the gap closed, by share of pictures sent",
    )
    table.add_column("policy")
    for point in evaluation.curves["random"]:
        table.add_column(f"{point.offload:.0%}", justify="right")
    for name, curve in evaluation.curves.items():
        table.add_row(name, *(_share(point.gap_share) for point in curve))
    open_console().print(table)


def _share(gap_share: float | None) -> str:
    return "-" if gap_share is None else f"{gap_share:.0%}"


def save_plot(evaluation: Evaluation, path: Path) -> None:
    """Accuracy over the share sent, one line a policy; oracle and random are dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, curve in evaluation.curves.items():
        style = {"oracle": "k--", "random": "k:"}.get(name, "o-")
        axes.plot(*_coordinates(curve), style, label=name, linewidth=1.6, markersize=4)
    axes.set_xlabel("pictures sent to the cloud, %")
    axes.set_ylabel(_METRICS[evaluation.metric])
    axes.set_title(f"{evaluation.edge_model} → {evaluation.cloud_model} on {evaluation.data}", fontsize=11)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)


def _coordinates(curve: Curve) -> tuple[list[float], list[float]]:
    return [100 * point.offload for point in curve], [point.accuracy for point in curve]
