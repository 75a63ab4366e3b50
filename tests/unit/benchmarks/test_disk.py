"""A month in small: every kind of file stays within its bound while several times as much is written."""

from pathlib import Path

from benchmarks.disk.month import write_month
from spillover.edge.config.sinks import DecisionDetail


def test_what_is_written_stays_within_the_default_bounds(tmp_path: Path) -> None:
    """Sinks and spool of the daemon, their default bounds and the frames divided by a thousand."""
    rows = list(write_month(tmp_path, days=3, fps=10, scale=1000, detail=DecisionDetail.SHORT))
    assert [row.what for row in rows] == ["jsonl", "sqlite", "spool"]
    for row in rows:
        assert row.largest_bytes <= row.bound_bytes
        assert row.written_bytes > 3 * row.bound_bytes
        assert row.largest_bytes > 0.7 * row.bound_bytes
