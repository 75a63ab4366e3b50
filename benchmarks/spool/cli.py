"""`python -m benchmarks spool`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.lab.params import FILE

if TYPE_CHECKING:
    from benchmarks.spool.disk_cost import Measured


@click.command("spool")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--records", default=1200, show_default=True, help="Records written before measuring, and after."
)
@click.option("--cap-mb", default=24, show_default=True, help="Room that each store has, in MiB.")
@click.option("--json", "json_path", type=FILE, help="Write figures here.")
def bench_spool(folder: Path, records: int, cap_mb: int, json_path: Path | None) -> None:
    """Measure ways to spool frames inside FOLDER: time of a commit, bytes written for a byte kept.

    Bytes written are those of the whole device below FOLDER, so give it one that nothing else uses, such as
    a file system on a loop device. Records of 15 to 45 KB; the store is full while it is measured, and what
    must go for a new record lies anywhere.
    """
    from dataclasses import asdict

    from benchmarks.spool.disk_cost import STORES, measure
    from spillover.lab.files import write_json

    rows = []
    for per_commit in (1, 4):
        for name in STORES:
            rows.append(measure(name, folder, records, cap_mb << 20, per_commit))
            _print_row(rows[-1])
    if json_path:
        write_json(json_path, [asdict(row) for row in rows])


def _print_row(row: "Measured") -> None:
    written = "not known" if row.write_amplification is None else f"{row.write_amplification:.2f}"
    click.echo(
        f"{row.store:7} {row.records_per_commit} a commit: median {row.median_commit_ms:6.2f} ms, "
        f"p99 {row.p99_commit_ms:6.1f} ms, bytes written for a byte kept {written}"
    )
