"""`spillover lab fit`."""

from pathlib import Path

import click

from spillover.lab.params import EXISTING, OUTPUT, PLOT, cloud_option, edge_option, threads_option


@click.command()
@edge_option
@cloud_option
@click.option(
    "--data",
    type=EXISTING,
    required=True,
    help="Labelled pictures, as for `lab evaluate`; with --teacher also a folder of pictures, or a clip.",
)
@click.option("--out", type=OUTPUT, required=True, help="Where the estimator for the edge goes (.json).")
@click.option("--json", "json_path", type=OUTPUT, help="Where the cross-fitted figures go.")
@click.option("--plot", type=PLOT, help="Where the plot of them goes (.png, .svg or .pdf).")
@click.option(
    "--look-below",
    type=click.FloatRange(0, 1),
    help="The edge predicts from several views, as with `model.multi_view`: a classifier where its best "
    "class is below this, a detector always.",
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Detectors: put the edge's confidences on the cloud's scale; written to its model.yaml.",
)
@click.option(
    "--report-threshold",
    type=click.FloatRange(0, 1),
    help="Detectors: model.report_threshold of edge.yaml, for the scores beside the fit; default: the "
    "model's own, with --calibrate the cloud's.",
)
@click.option(
    "--variants",
    type=EXISTING,
    help="An edge.yaml: measure what each of its uplink.variants keeps of the cloud's answers.",
)
@click.option(
    "--clip",
    type=EXISTING,
    help="With --variants: a clip of the camera; measure also what video of some rate factors keeps on it.",
)
@click.option("--teacher", is_flag=True, help="Learn from the cloud's answers instead of the labels.")
@threads_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of the folds and the bootstrap.")
def fit(  # noqa: PLR0913, PLR0917 - one parameter an option
    edge: Path,
    cloud: Path,
    data: Path,
    out: Path,
    json_path: Path | None,
    plot: Path | None,
    look_below: float | None,
    calibrate: bool,
    report_threshold: float | None,
    variants: Path | None,
    clip: Path | None,
    teacher: bool,
    threads: int,
    seed: int,
) -> None:
    """Fit the expected gain: how much better the cloud would answer, from the edge's prediction alone.

    Writes a small JSON file for `policy.kind: expected_gain` in edge.yaml, and shows the share of the gap
    between edge and cloud that it closes, beside the policies that need no fitting. The figures are
    cross-fitted (4 repeats of 5 folds): each picture is scored by an estimator fitted to other pictures.

    Two detectors' confidences are not on one scale, so boxes of pictures that stay outrank better ones of
    pictures that are sent. `--calibrate` learns the scale from boxes that both find, and writes it into the
    model.yaml of the edge, with the cloud's own threshold for what is reported. Thresholds are on the cloud's
    scale from then on. The policy sees boxes from 0.02 up, because it judges by doubtful ones too. What it
    changes is printed, and the file as it was stays beside it as model.yaml.before.

    With `--teacher` no labels are needed: a folder of pictures that a camera took, or a clip of it, is
    enough. Neighbouring frames look alike, so the folds divide them by stretches of a fiftieth of all.

    \b
    spillover lab fit --edge E --cloud C --data DIR --out gain.json
    spillover lab fit --edge E --cloud C --data CLIP --teacher --out gain.json
    """  # noqa: D301 - click's mark of a paragraph that is not to be filled is a real backspace
    import msgspec

    from spillover.common.config import load_config
    from spillover.edge.config import EdgeConfig, MultiViewConfig
    from spillover.edge.payload.encoder import VIDEO, usual_variant
    from spillover.lab.files import write_json
    from spillover.lab.pairs.fit.calibrate import calibrate_anew
    from spillover.lab.pairs.fit.fit_report import print_fit, save_fit_plot
    from spillover.lab.pairs.fit.fitting import fit_pair, write_gain_file
    from spillover.lab.pairs.fit.pair import predict_pair
    from spillover.lab.pairs.fit.pictures import open_pictures
    from spillover.lab.pairs.fit.variants import measure_variants, measure_video
    from spillover.lab.terminal import Bar

    if clip is not None and variants is None:
        raise click.UsageError("--clip needs --variants: an edge.yaml says how video is coded")
    progress = Bar()
    views = None if look_below is None else MultiViewConfig(below=look_below)
    pair = predict_pair(
        edge,
        cloud,
        open_pictures(data),
        progress,
        threads,
        views,
        calibrate=calibrate,
        report_threshold=report_threshold,
    )
    fitted = fit_pair(pair, progress, teacher=teacher, seed=seed)
    file = fitted.file
    if variants is not None:
        config = load_config(variants, EdgeConfig)
        pictures = [usual_variant(config.uplink), *(config.uplink.variants or ())]
        rows = measure_variants(cloud, pair.data, pictures, progress, threads)
        fidelity = {row.name: round(row.fidelity, 4) for row in rows[1:]}
        if clip is not None:
            videos, kept = measure_video(cloud, clip, config.uplink, progress, threads)
            rows += videos
            fidelity[VIDEO] = round(kept, 4)
        file = msgspec.structs.replace(file, fidelity=fidelity)
        for row in rows:
            click.echo(row.sentence())
    write_gain_file(out, file)
    if calibrate and pair.edge.calibration is not None:
        for line in calibrate_anew(edge, pair.edge.calibration, pair.report_threshold):
            click.echo(line)
    if json_path is not None:
        write_json(json_path, fitted.as_dict())
    if plot is not None:
        save_fit_plot(fitted, plot)
    print_fit(fitted)
