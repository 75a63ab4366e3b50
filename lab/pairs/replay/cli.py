"""`spillover lab replay`."""

import itertools
from dataclasses import asdict
from pathlib import Path

import click

from spillover.lab.params import EXISTING, OUTPUT

LINKS = "constant, lte, wifi, satellite, outage"


def _only_one(_: click.Context, __: click.Parameter, given: tuple[Path, ...]) -> Path:
    """The one log, where click would take the last of several and say nothing."""
    if len(given) > 1:
        raise click.BadParameter("only one log is played; --answers takes more of the same pictures")
    return given[0]


@click.command()
@click.option(
    "--log",
    "log_path",
    type=EXISTING,
    multiple=True,
    required=True,
    callback=_only_one,
    help="JSON lines of `spillover edge`.",
)
@click.option(
    "--link",
    "links",
    multiple=True,
    help=f"A CSV (at_s, rate_bytes_per_s, rtt_s) or one of {LINKS}; may be repeated; default: those five.",
)
@click.option(
    "--policy",
    help="Score frames by max_softmax, margin, entropy, mean_score, near_threshold or a gain file, not "
    "by the logged gain.",
)
@click.option(
    "--report-threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="For --policy, detections: model.report_threshold of edge.yaml.",
)
@click.option(
    "--send-share",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the frames that is sent, those that gain most; default: 0.1, with a budget all of them.",
)
@click.option("--threshold", type=float, help="Gain from which frames are sent, in place of a share.")
@click.option(
    "--deadline-s",
    type=click.FloatRange(min=0, min_open=True),
    default=0.5,
    show_default=True,
    help="Seconds from capture to a frame's first result.",
)
@click.option(
    "--budget-mb", type=click.FloatRange(min=0, min_open=True), help="MB per period; default: none."
)
@click.option(
    "--period-s", type=click.FloatRange(min=1), default=3600.0, show_default=True, help="Of the budget."
)
@click.option("--payload-bytes", type=click.FloatRange(min=1), help="Size of frames that were not sent.")
@click.option(
    "--answers",
    type=EXISTING,
    multiple=True,
    help="More JSON lines of the same pictures, as of --mode cloud_only; may be repeated.",
)
@click.option("--data", type=EXISTING, help="Labels of the pictures, as `lab evaluate` takes them.")
@click.option("--json", "json_path", type=OUTPUT, help="Where the figures go.")
def replay(  # noqa: PLR0913, PLR0917 - one an option
    log_path: Path,
    links: tuple[str, ...],
    policy: str | None,
    report_threshold: float,
    send_share: float | None,
    threshold: float | None,
    deadline_s: float,
    budget_mb: float | None,
    period_s: float,
    payload_bytes: float | None,
    answers: tuple[Path, ...],
    data: Path | None,
    json_path: Path | None,
) -> None:
    """What would another policy, budget or link have made of the frames of a log?

    Plays the frames over a link in simulated time, twice: sent by score alone, and sent when the measured
    link can have the answer back in time and the budget pays for it. Shows what was sent, the share that was
    back by its deadline, and the share of all expected gain that arrived.

    First every decision of the log is repeated from its logged inputs, and the tracks of every frame are made
    again, bit by bit; those that come out differently are named. The inputs are in logs of a sink with
    `decision: full`.

    With --policy frames are scored anew, from the edge's answers in the log. Where the cloud has answered,
    --answers brings the edge's, from a run of --mode edge_only over the same pictures.

    It says how well the newest result at each instant agreed with the cloud's answer of that instant
    (streaming accuracy), for what was shown and, with `decision: full`, for the edge's own boxes. Judged are
    the frames that the cloud has answered; --answers of a run of --mode cloud_only over the same clip judges
    all of them, and shows what that run's own answers were worth by the clock.

    With --data it shows as well how good all the answers would have been, by the labels. That needs both
    sides' answers to each picture: one log holds the edge's, another the cloud's.

    \b
    spillover lab replay --log results.jsonl --link lte --deadline-s 1
    spillover lab replay --log hybrid.jsonl --answers cloud.jsonl
    spillover lab replay --log edge.jsonl --answers cloud.jsonl --data pictures --payload-bytes 40000
    """  # noqa: D301 - click's mark of a paragraph that is not to be filled is a real backspace
    from spillover.lab.files import write_json
    from spillover.lab.pairs.replay.compare import Choice, compare, print_table
    from spillover.lab.pairs.replay.log import first_results, frames_of
    from spillover.lab.pairs.replay.remake import remake
    from spillover.lab.pairs.replay.rescore import rescore_by
    from spillover.lab.pairs.replay.simulate import Setting
    from spillover.lab.pairs.replay.streaming import streaming_of
    from spillover.lab.pairs.replay.trace import MODELS, model_trace, read_trace
    from spillover.lab.pairs.replay.tracks import remake_tracks
    from spillover.lab.pairs.replay.truth import open_judge
    from spillover.lab.records import read_records

    if send_share is not None and threshold is not None:
        raise click.UsageError("--send-share and --threshold both say which frames are sent: keep one")
    logs = {str(path): read_records(path) for path in (log_path, *answers)}
    records = first_results(log_path, logs[str(log_path)])
    streaming = streaming_of(logs)
    told = (remake(records).lines(), remake_tracks(records).lines(), (one.line() for one in streaming))
    for line in itertools.chain(*told):
        click.echo(line)
    more = [record for path in answers for record in logs[str(path)]]
    rescore = rescore_by(policy, [*records, *more], report_threshold) if policy else None
    frames = frames_of(log_path, records, payload_bytes, rescore)
    traces = [model_trace(name) if name in MODELS else read_trace(Path(name)) for name in links or MODELS]
    budget_bytes = budget_mb * 1e6 if budget_mb is not None else None
    judge = open_judge(data, (log_path, *answers)) if data is not None else None
    setting = Setting(deadline_s=deadline_s)
    rows = compare(frames, traces, setting, Choice(send_share, threshold), budget_bytes, period_s, judge)
    if json_path is not None:
        content = {"links": [asdict(row) for row in rows], "streaming": [asdict(one) for one in streaming]}
        write_json(json_path, content)
    print_table(rows)
    if judge is not None:
        edge, cloud = (judge.accuracy(frames, [sent] * len(frames)) for sent in (False, True))
        pictures = f"{judge.metric} of {len(judge)} labelled pictures"
        click.echo(f"{pictures}: {edge:.4f} edge alone, {cloud:.4f} cloud alone")
