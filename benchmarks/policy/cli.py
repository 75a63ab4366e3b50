"""`python -m benchmarks policy`."""

from pathlib import Path

import click

from spillover.lab.params import threads_option


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
@threads_option
def bench_policy(folder: Path, out: Path, threads: int) -> None:
    """Measure policies: share of the gap closed, budget, risk, links, and the cost of a decision.

    Fits the expected gain of each pair cross-fitted, and simulates the other rules. Takes some minutes the
    first time; predictions are cached.
    """
    from benchmarks.policy.policy_report import write_report
    from spillover.lab.terminal import Bar

    path = write_report(folder, out, Bar(), threads)
    click.echo(path.read_text(encoding="utf-8"))
    click.echo(f"written: {path}")
