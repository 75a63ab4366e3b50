"""What benchmarks that write a report have in common: options of commands, verdicts, tables in Markdown."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def folder_option(what: str) -> Decorator:
    """The option `--folder` for networks, pictures and clips; `what` is its help."""
    return click.option(
        "--folder",
        type=click.Path(path_type=Path),
        default=Path("../shared"),
        show_default=True,
        envvar="SPILLOVER_SHARED",
        help=what,
    )


def out_option(name: str, what: str) -> Decorator:
    """The option `--out`, by default the folder `name` below `out`; `what` is its help."""
    return click.option(
        "--out", type=click.Path(path_type=Path), default=Path("out") / name, show_default=True, help=what
    )


def show(report: Path) -> None:
    """Print the report, and where it is."""
    click.echo(report.read_text(encoding="utf-8"))
    click.echo(f"written: {report}")


def verdict(*, met: bool) -> str:
    """What a table says of a goal."""
    return "met" if met else "missed"


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of a line each."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
