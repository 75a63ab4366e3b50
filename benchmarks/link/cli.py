"""`python -m benchmarks link`."""

from pathlib import Path

import click

from benchmarks.reports import out_option, show


@click.command("link")
@click.option(
    "--trace",
    "traces",
    type=click.Path(path_type=Path),
    multiple=True,
    help="More links: CSV files as `spillover edge --record-link` writes them. May be repeated.",
)
@out_option("bench-link", "report.md goes here.")
def bench_link(traces: tuple[Path, ...], out: Path) -> None:
    """Measure the edge's rule for links on a simulated clock, beside a sender that knows the link.

    Policy, link estimate, in-flight cap and breaker are the edge's own, and every frame is wanted in the
    cloud. Shows how much of what could be back in time was, and how much of what was sent.
    """
    from benchmarks.link.link_report import write_report
    from spillover.lab.terminal import Bar

    path = write_report(traces, out, Bar())
    show(path)
