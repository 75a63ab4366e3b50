"""`spillover lab evaluate`."""

import json
from pathlib import Path

import click

from spillover.lab.params import MODEL, OUTPUT, PLOT

EXISTING = click.Path(exists=True, path_type=Path)


@click.command()
@click.option("--edge", type=MODEL, required=True, help="Model of the edge: a folder or a prepared name.")
@click.option("--cloud", type=MODEL, required=True, help="Model of the cloud: a folder or a prepared name.")
@click.option(
    "--data",
    type=EXISTING,
    required=True,
    help="Folder with labels.csv (file,class_index) or COCO instances.json; or an .npz with x and y.",
)
@click.option("--json", "json_path", type=OUTPUT, required=True, help="Where the figures go.")
@click.option("--plot", type=PLOT, help="Where the plot goes (.png, .svg or .pdf).")
@click.option("--gain", type=EXISTING, help="What `lab fit` wrote for this pair, from other pictures.")
@click.option(
    "--report-threshold",
    type=click.FloatRange(0, 1),
    help="Detectors: model.report_threshold of edge.yaml; default: the model's confidence_threshold.",
)
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Threads of a model; 0: all cores.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="For equal scores and the random policy."
)
def evaluate(  # noqa: PLR0913, PLR0917 - one parameter an option
    edge: Path,
    cloud: Path,
    data: Path,
    json_path: Path,
    plot: Path | None,
    gain: Path | None,
    report_threshold: float | None,
    threads: int,
    seed: int,
) -> None:
    """Accuracy of a pair of models over the share of pictures that are sent, under each policy.

    Runs both models over labelled pictures (predictions are kept in the cache folder, so that a second run
    is quick), then asks of each policy: had it sent its best 5, 10, 20 ... % of the pictures, how good would
    all the answers have been, and how much of the gap between edge and cloud is that?

    Scores of a detection judge by the boxes that the daemon would see: those from the confidence_threshold of
    the edge's model.yaml up. Accuracy counts boxes of any confidence.

    The oracle knows the labels: it sends the pictures that gain most. For detection a picture's gain is how
    far mAP of the whole set rises when it alone is sent.
    """
    from spillover.edge.policy.gain import GainModel
    from spillover.lab.data.labelled import open_labelled_set
    from spillover.lab.pairs.evaluate.report import print_table, save_plot
    from spillover.lab.pairs.evaluate.run import evaluate_pair
    from spillover.lab.progress import Bar

    model = GainModel.load(gain) if gain is not None else None
    labelled = open_labelled_set(data)
    evaluation = evaluate_pair(
        edge,
        cloud,
        labelled,
        Bar(),
        gain=model,
        report_threshold=report_threshold,
        threads=threads,
        seed=seed,
    )
    json_path.parent.mkdir(parents=True, exist_ok=True)
    json_path.write_text(json.dumps(evaluation.as_dict(), indent=2) + "\n", encoding="utf-8")
    print_table(evaluation)
    if plot is not None:
        save_plot(evaluation, plot)
