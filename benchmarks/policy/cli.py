"""`python -m benchmarks policy`."""

from pathlib import Path

import click


@click.command("policy")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("../shared"),
    show_default=True,
    envvar="SPILLOVER_SHARED",
    help="Labelled pictures (data/) and networks (models/); pairs whose files are missing are passed over.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/bench-policy"),
    show_default=True,
    help="report.md, and figures and a plot for each pair.",
)
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Threads of a model; 0: all cores.")
def bench_policy(folder: Path, out: Path, threads: int) -> None:
    """What policies are worth: share of the gap closed, budget, risk, links, and the cost of a decision.

    Fits the expected gain of each pair cross-fitted, and plays the other rules in simulation. Takes some
    minutes the first time; predictions are kept in the cache folder.
    """
    from benchmarks.policy.report import write_report
    from spillover.lab.progress import Bar

    path = write_report(folder, out, Bar(), threads)
    click.echo(path.read_text(encoding="utf-8"))
    click.echo(f"written: {path}")
