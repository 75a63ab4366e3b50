"""`spillover lab evaluate`."""

from pathlib import Path

import click

from spillover.lab.params import EXISTING, OUTPUT, cloud_option, edge_option, plot_option, threads_option


@click.command()
@edge_option
@cloud_option
@click.option(
    "--data",
    type=EXISTING,
    required=True,
    help="Folder with labels.csv (file,class_index) or COCO instances.json; or an .npz with x and y.",
)
@click.option("--json", "json_path", type=OUTPUT, required=True, help="Where the figures go.")
@plot_option
@click.option("--gain", type=EXISTING, help="What `lab fit` wrote for this pair, from other pictures.")
@click.option(
    "--report-threshold",
    type=click.FloatRange(0, 1),
    help="Detectors: model.report_threshold of edge.yaml; default: the model's confidence_threshold.",
)
@threads_option
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

    Runs both models over labelled pictures (predictions are cached, so that a second run is quick). Then
    shows for each policy: had it sent its best 5, 10, 20 ... % of the pictures, how accurate would all
    answers have been, and how much of the gap between edge and cloud would that close?

    Scores of a detection judge by the boxes that the daemon would see: those from the confidence_threshold of
    the edge's model.yaml up. Accuracy counts boxes of any confidence.

    The oracle knows the labels and sends the pictures that gain most. For detection a picture's gain is how
    far mAP of the whole set rises when that picture alone is sent.
    """
    from spillover.edge.policy.gain import GainModel
    from spillover.lab.data.labelled import open_labelled_set
    from spillover.lab.files import write_json
    from spillover.lab.pairs.evaluate.evaluation import evaluate_pair
    from spillover.lab.pairs.evaluate.evaluation_report import print_table, save_plot
    from spillover.lab.terminal import Bar

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
    write_json(json_path, evaluation.as_dict())
    print_table(evaluation)
    if plot is not None:
        save_plot(evaluation, plot)
