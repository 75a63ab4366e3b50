"""`python -m benchmarks spool`: what each way to keep frames costs the disk."""

import itertools
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.spool.stores import ArenaStore, Batch, FileStore, LogStore, SqliteStore, Store

_STORES: dict[str, Callable[[Path, int], Store]] = {
    "sqlite": SqliteStore,
    "log": LogStore,
    "files": FileStore,
    "arena": ArenaStore,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One store under one load. `write_amplification` is None where the device's counters cannot be read."""

    store: str
    records_per_commit: int
    median_commit_ms: float
    p99_commit_ms: float
    write_amplification: float | None


@click.command("spool")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--records", default=1200, show_default=True, help="Records written before measuring, and after."
)
@click.option("--cap-mb", default=24, show_default=True, help="Room that each store has, in MiB.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write figures here."
)
def bench_spool(folder: Path, records: int, cap_mb: int, json_path: Path | None) -> None:
    """Measure ways to spool frames inside FOLDER: time of a commit, bytes written for a byte kept.

    Bytes written are those of the whole device below FOLDER, so give it one that nothing else uses, such as
    a file system on a loop device. Records of 15 to 45 KB; the store is full while it is measured, and what
    must go for a new record lies anywhere.
    """
    rows = []
    for per_commit in (1, 4):
        for name in _STORES:
            rows.append(_measure(name, folder, records, cap_mb << 20, per_commit))
            _say(rows[-1])
    if json_path:
        json_path.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


def _measure(name: str, parent: Path, records: int, cap_bytes: int, per_commit: int) -> Measured:
    folder = Path(tempfile.mkdtemp(prefix=f"spool-{name}-", dir=parent))
    rng = random.Random(per_commit)  # noqa: S311 - the same records for every store
    try:
        store = _STORES[name](folder, cap_bytes)
        batches = _batches(rng, 2 * records, per_commit)
        for batch in itertools.islice(batches, records // per_commit):
            store.commit(batch)
        os.sync()
        before, seconds, kept_bytes = _written_bytes(folder), [], 0
        for batch in batches:
            start = time.perf_counter()
            store.commit(batch)
            seconds.append(time.perf_counter() - start)
            kept_bytes += sum(len(body) for _, body in batch)
        os.sync()
        after = _written_bytes(folder)
        return Measured(
            store=name,
            records_per_commit=per_commit,
            median_commit_ms=statistics.median(seconds) * 1e3,
            p99_commit_ms=statistics.quantiles(seconds, n=100)[98] * 1e3,
            write_amplification=None if before is None or after is None else (after - before) / kept_bytes,
        )
    finally:
        shutil.rmtree(folder)


def _batches(rng: random.Random, records: int, per_commit: int) -> Iterator[Batch]:
    """Newer records tend to be worth more, so that none is refused and the one to go may lie anywhere."""
    for start in range(0, records, per_commit):
        yield [
            (start + rng.uniform(0, records), rng.randbytes(rng.randint(15_000, 45_000)))
            for _ in range(per_commit)
        ]


def _written_bytes(folder: Path) -> int | None:
    """Bytes that the device below `folder` has taken (Linux, block/stat.rst: field 7, sectors of 512 B)."""
    device = folder.stat().st_dev
    try:
        text = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text(encoding="ascii")
    except OSError:
        return None
    return int(text.split()[6]) * 512


def _say(row: Measured) -> None:
    written = "not known" if row.write_amplification is None else f"{row.write_amplification:.2f}"
    click.echo(
        f"{row.store:7} {row.records_per_commit} a commit: median {row.median_commit_ms:6.2f} ms, "
        f"p99 {row.p99_commit_ms:6.1f} ms, bytes written for a byte kept {written}"
    )
