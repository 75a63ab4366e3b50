"""`spillover lab check`: the books of a run, and an exit code that says whether they balance."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from spillover.common.errors import SpilloverError
from spillover.edge.spool.arena import intact_records
from spillover.lab.runs.check.books import AuditReport, Books


class BooksDoNotBalanceError(SpilloverError):
    """The run broke a promise."""


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--spool",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The spool's file, of a daemon that does not run: what was accepted and has no end must be there.",
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the verdict."
)
def check(runs: tuple[Path, ...], spool: Path | None, json_path: Path | None) -> None:
    """Prove that every frame ended exactly once, from the JSON lines in RUNS, oldest file first.

    A frame ends as edge, cloud, edge_degraded, or dropped with a reason; a late answer is a revision of an
    edge_degraded one. Exit code 1 when a frame has no ending, or two, or was promised and lost.
    """
    books = Books()
    for run in runs:
        with run.open("rb") as file:
            books.take(file)
    verdict = books.verdict(on_disk=waiting_in(spool) if spool else None)
    if json_path:
        json_path.write_text(json.dumps(asdict(verdict), indent=1), encoding="utf-8")
    click.echo(_text(verdict))
    if verdict.violations:
        raise BooksDoNotBalanceError(f"{len(verdict.violations)} violations")


def waiting_in(spool: Path) -> set[str]:
    """Ids of the frames that wait in a spool's file and can be read back."""
    return {header.key.decode(errors="replace") for header, _ in intact_records(spool)}


def _text(verdict: AuditReport) -> str:
    endings = ", ".join(f"{name} {count}" for name, count in sorted(verdict.endings.items()))
    fates = ", ".join(f"{name} {count}" for name, count in sorted(verdict.fates.items()))
    lines = [
        f"{verdict.frames} frames in {verdict.boots} runs ({verdict.killed} killed): {endings or 'none'}",
        f"revisions {verdict.revisions}, repeated after a restart {verdict.repeated_revisions}",
        f"accepted by the spool {verdict.accepted}: {fates or 'none'}",
        f"missing at a kill {verdict.missing_at_kill}, torn lines {verdict.torn_lines}",
        *(f"VIOLATION {text}" for text in verdict.violations[:20]),
        "the books balance" if not verdict.violations else f"{len(verdict.violations)} violations",
    ]
    return "\n".join(lines)
