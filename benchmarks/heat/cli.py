"""`python -m benchmarks heat`."""

from pathlib import Path

import click

from benchmarks.reports import out_option, show


@click.command("heat")
@out_option("bench-heat", "report.md and heat.png go here.")
def bench_heat(out: Path) -> None:
    """Run the ladder on simulated devices in the heat, beside the same devices without it."""
    from benchmarks.heat.heat_report import write_report

    show(write_report(out))
