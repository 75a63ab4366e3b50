"""`python -m benchmarks policy`."""

from pathlib import Path

import click

from benchmarks.reports import folder_option, out_option, show
from spillover.lab.params import threads_option


@click.command("policy")
@folder_option(
    "Labelled pictures (data/) and networks (models/); pairs whose files are missing are passed over."
)
@out_option("bench-policy", "report.md, and figures and a plot for each pair.")
@threads_option
def bench_policy(folder: Path, out: Path, threads: int) -> None:
    """Measure policies: share of the gap closed, budget, risk, links, and the cost of a decision.

    Fits the expected gain of each pair cross-fitted, and simulates the other rules. Takes some minutes the
    first time; predictions are cached.
    """
    from benchmarks.policy.policy_report import write_report
    from spillover.lab.terminal import Bar

    path = write_report(folder, out, Bar(), threads)
    show(path)
