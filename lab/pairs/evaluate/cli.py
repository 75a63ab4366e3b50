"""`spillover lab evaluate`."""

from pathlib import Path

import click

from spillover.lab.params import (
    EXISTING,
    OUTPUT,
    FiguresType,
    cloud_option,
    edge_option,
    plot_option,
    threads_option,
)


@click.command()
@edge_option
@cloud_option
@click.option(
    "--data",
    type=EXISTING,
    help="Folder with labels.csv (file,class_index) or COCO instances.json; or an .npz with x and y.",
)
@click.option(
    "--video", type=EXISTING, help="Detectors: a clip, or a folder of pictures, in place of --data."
)
@click.option("--json", "json_path", type=OUTPUT, required=True, help="Where the figures go.")
@plot_option
@click.option("--gain", type=EXISTING, help="What `lab fit` wrote for this pair, from other pictures.")
@click.option(
    "--report-threshold",
    type=click.FloatRange(0, 1),
    help="Detectors: model.report_threshold of edge.yaml; default: the model's confidence_threshold.",
)
@click.option(
    "--payload",
    type=click.Choice(["picture", "video"]),
    default="picture",
    show_default=True,
    help="For --video: send JPEG in two sizes, or H.264 of the frames that are sent, each really encoded.",
)
@click.option(
    "--crf",
    type=FiguresType(0, 51),
    help="For --payload video: constant rate factors of H.264, 51 the worst; default: as good as JPEG.",
)
@click.option(
    "--longest-side",
    type=click.IntRange(min=16),
    default=416,
    show_default=True,
    help="For --payload video: pixels of the longest side.",
)
@click.option(
    "--sent",
    type=FiguresType(0, 1),
    default="0.01,0.02,0.05,0.1,0.2",
    show_default=True,
    help="For --video: shares of cloud_only's bytes that may be sent.",
)
@click.option(
    "--every",
    type=FiguresType(1, 1000),
    help="For --video: send every so many frames one, as `1,3,8`, in place of shares of bytes.",
)
@click.option(
    "--late-s",
    type=FiguresType(0, 60),
    default="0,0.2,0.5,1",
    show_default=True,
    help="For --video: seconds from a frame's capture to the cloud's answer.",
)
@click.option(
    "--labels", type=EXISTING, help="For --video: gt.txt as MOTChallenge has it; default: the cloud model."
)
@click.option(
    "--fps", type=click.FloatRange(0, 1000, min_open=True), help="For --video: in place of its own times."
)
@threads_option
@click.option(
    "--seed", type=int, default=0, show_default=True, help="For equal scores and the random policy."
)
def evaluate(  # noqa: PLR0913, PLR0917 - one parameter an option
    edge: Path,
    cloud: Path,
    data: Path | None,
    video: Path | None,
    json_path: Path,
    plot: Path | None,
    gain: Path | None,
    report_threshold: float | None,
    payload: str,
    crf: tuple[float, ...] | None,
    longest_side: int,
    sent: tuple[float, ...],
    every: tuple[float, ...] | None,
    late_s: tuple[float, ...],
    labels: Path | None,
    fps: float | None,
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

    With --video both detectors run once a frame, and the clip is played on its own clock: the edge alone,
    the cloud's boxes held still, the same boxes carried by the daemon's tracker, and the cloud alone, for
    each share of the bytes and each delay. It shows F1 and streaming accuracy (arXiv 2005.10420) against the
    cloud's answers to the uncompressed frames, or against --labels. With --payload video the bytes of a frame
    depend on those sent before; they hold every packet of whose frame the answer was not there yet.

    \b
    spillover lab evaluate --edge E --cloud C --data DIR --json out.json
    spillover lab evaluate --edge E --cloud C --video CLIP --json out.json --plot out.png
    spillover lab evaluate --edge E --cloud C --video CLIP --json out.json --payload video --every 1,3,8
    """  # noqa: D301 - click's mark of a paragraph that is not to be filled is a real backspace
    from spillover.lab.terminal import Bar

    if (data is None) == (video is None):
        raise click.UsageError("say what to judge on: --data or --video, one of them")
    if video is not None:
        from spillover.lab.files import write_json
        from spillover.lab.pairs.video.clip import open_clip
        from spillover.lab.pairs.video.evaluation import VARIANTS, Question, clock, evaluate_video, grid
        from spillover.lab.pairs.video.streamed import VideoForm
        from spillover.lab.pairs.video.video_report import print_tables
        from spillover.lab.pairs.video.video_report import save_plot as save_video_plot

        if gain is not None:
            raise click.UsageError("--gain ranks pictures of --data; frames of --video are sent by a clock")
        if crf is not None and payload != "video":
            raise click.UsageError("--crf is for --payload video")
        factors = [round(one) for one in crf] if crf else [None]
        forms = [VideoForm(one, longest_side) for one in factors] if payload == "video" else VARIANTS
        points = clock(every, late_s) if every is not None else grid(sent, late_s)
        question = Question(points, report_threshold=report_threshold, forms=tuple(forms))
        clip = open_clip(video, fps)
        played = evaluate_video(edge, cloud, clip, question, Bar(), labels=labels, threads=threads)
        write_json(json_path, played.as_dict())
        print_tables(played)
        if plot is not None:
            save_video_plot(played, plot)
        return
    assert data is not None  # noqa: S101 - one of the two was said
    if data.is_file() and data.suffix != ".npz":
        raise click.UsageError(f"--data has labels, and {data.name} none: say --video for a clip")
    _evaluate_pictures(edge, cloud, data, json_path, plot, gain, report_threshold, threads, seed)


def _evaluate_pictures(  # noqa: PLR0913, PLR0917 - as above
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
