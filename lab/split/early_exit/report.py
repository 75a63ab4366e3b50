"""What `spillover lab early-exit` shows: what each exit keeps, and what it costs behind the backbone."""

from spillover.lab.console import open_console
from spillover.lab.split.early_exit.build import SENT, ExitReport


def print_report(report: ExitReport) -> None:
    """The exits on standard output, one a row; the one that was written is marked."""
    from rich.table import Table

    table = Table(title=f"Exits behind a backbone of {report.trunk_s * 1e3:.1f} ms")
    table.add_column("")
    table.add_column("leads to", overflow="fold")
    for heading in ("ms behind the backbone", "keeps", "same answer"):
        table.add_column(heading, justify="right")
    for share in SENT:
        table.add_column(f"... with {share:.0%} sent\n(gap closed)", justify="right")
    for one in report.tried:
        gap = 1 - one.agreement
        table.add_row(
            "->" if one is report.taken else "",
            one.target,
            f"{(one.seconds - report.trunk_s) * 1e3:.1f}",
            f"{one.fidelity:.3f}",
            f"{one.agreement:.3f}",
            *(
                f"{right:.3f} ({(right - one.agreement) / gap if gap else 1:.0%})"
                for right in one.when_sent.values()
            ),
        )
    console = open_console()
    console.print(table)
    console.print(
        f"The whole network takes {report.whole_s * 1e3:.1f} ms. Sent are the frames that the exit is least "
        "sure of; their features are there already."
    )
