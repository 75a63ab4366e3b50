"""The command `python -m benchmarks against`: what changes since a commit cost the server."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from benchmarks.against.compare import Row

ALLOWED = 1.10
JUDGED_AT = 16


@click.command("against")
@click.argument("commit")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Each has two turns in a round.",
)
@click.option("--seconds", type=float, default=1.5, show_default=True, help="Length of one turn.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, JUDGED_AT),
    show_default=True,
    help="Connections, each with one request at a time; may be repeated.",
)
def bench_against(commit: str, rounds: int, seconds: float, concurrency: tuple[int, ...]) -> None:
    """Compare the server of the working tree with that of COMMIT: processor time a request.

    Needs git and h2load (Debian's nghttp2-client). Both servers run side by side with default limits and
    take turns in every round, under the same client.
    """
    from benchmarks.against.compare import Plan, compare
    from spillover.lab.terminal import open_console, table

    rows, is_shared = compare(Plan(commit, concurrency, rounds, seconds))
    console = open_console()
    headings = ("request", "C", f"{commit} CPU ms", "now CPU ms", "now / then", "rounds")
    lines = [
        (
            row.job,
            str(row.concurrency),
            f"{row.old_cpu_ms:.3f}",
            f"{row.new_cpu_ms:.3f}",
            f"{row.ratio:.3f}",
            f"{min(row.ratios):.2f} .. {max(row.ratios):.2f}",
        )
        for row in rows
    ]
    console.print(table(headings, lines, title="Processor time of the server a request, medians"))
    if not is_shared:
        console.print(f"{commit} ran in an environment of its own: its packages differ too")
    for row in rows:
        if row.goal is not None:
            console.print(verdict(row), markup=False)


def verdict(row: "Row") -> str:
    """Whether a row meets the goal, in a line."""
    goal = ALLOWED if row.goal is None else row.goal
    word = "met   " if row.ratio <= goal else "MISSED"
    text = f"{row.job}, C={row.concurrency}: at most {goal:.2f} of the processor time before"
    return f"{word}  {text}: {row.ratio:.3f}"
