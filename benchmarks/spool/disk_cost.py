"""Measures the time of a commit and the bytes written to the device, for each way to keep frames."""

import itertools
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.spool.stores import ArenaStore, Batch, FileStore, LogStore, SqliteStore, Store

STORES: dict[str, Callable[[Path, int], Store]] = {
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


def measure(name: str, parent: Path, records: int, cap_bytes: int, per_commit: int) -> Measured:
    """Fill a store below `parent` to its cap, then measure commits of `per_commit` records."""
    folder = Path(tempfile.mkdtemp(prefix=f"spool-{name}-", dir=parent))
    rng = random.Random(per_commit)  # noqa: S311 - the same records for every store
    try:
        store = STORES[name](folder, cap_bytes)
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
