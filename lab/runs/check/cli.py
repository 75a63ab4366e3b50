"""`spillover lab check`: proves that every frame of a run ended once, or exits with code 1."""

from dataclasses import asdict
from pathlib import Path

import click

from spillover.common.errors import SpilloverError
from spillover.edge.spool.arena import intact_records
from spillover.lab.files import write_json
from spillover.lab.params import FILE
from spillover.lab.runs.check.frame_accounting import AuditReport, FrameAccounting

_EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class ViolationsFoundError(SpilloverError):
    """A frame has no ending, or two, or was accepted and lost."""


@click.command()
@click.argument("runs", nargs=-1, required=True, type=_EXISTING_FILE)
@click.option(
    "--spool",
    type=_EXISTING_FILE,
    help="The spool's file, of a stopped daemon: accepted frames without an ending must be in it.",
)
@click.option("--json", "json_path", type=FILE, help="Where the figures go.")
def check(runs: tuple[Path, ...], spool: Path | None, json_path: Path | None) -> None:
    """Prove that every frame ended exactly once, from the JSON lines in RUNS, oldest file first.

    A frame ends as edge, cloud, edge_degraded, or dropped with a reason; a late answer is a revision of an
    edge_degraded one. Where the sink has rotated, give the old files first (results.jsonl.2 results.jsonl.1
    results.jsonl); of a run that began before them the rest is checked. Events are needed, inputs are not.
    Exit code 1 when a frame has no ending, or two, or was accepted and lost.
    """
    frames = FrameAccounting()
    for run in runs:
        with run.open("rb") as file:
            frames.add(file)
    report = frames.report(on_disk=waiting_in(spool) if spool else None)
    if json_path:
        write_json(json_path, asdict(report))
    click.echo(_text(report))
    if report.violations:
        raise ViolationsFoundError(f"{len(report.violations)} violations")


def waiting_in(spool: Path) -> set[str]:
    """Ids of the readable frames in a spool's file."""
    return {header.key.decode(errors="replace") for header, _ in intact_records(spool)}


def _beginning(report: AuditReport) -> list[str]:
    if not report.before:
        return []
    return [f"the lines begin in the middle of a run: {report.before} frames before them are not looked at"]


def _text(report: AuditReport) -> str:
    endings = ", ".join(f"{name} {count}" for name, count in sorted(report.endings.items()))
    fates = ", ".join(f"{name} {count}" for name, count in sorted(report.fates.items()))
    lines = [
        f"{report.frames} frames in {report.boots} runs ({report.killed} killed): {endings or 'none'}",
        f"revisions {report.revisions}, repeated after a restart {report.repeated_revisions}",
        f"accepted by the spool {report.accepted}: {fates or 'none'}",
        f"missing at a kill {report.missing_at_kill}, torn lines {report.torn_lines}",
        *_beginning(report),
        *(f"VIOLATION {text}" for text in report.violations[:20]),
        "every frame is accounted for" if not report.violations else f"{len(report.violations)} violations",
    ]
    return "\n".join(lines)
