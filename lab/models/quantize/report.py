"""The before/after report as a table for people."""

from rich.console import Console
from rich.table import Table

from spillover.lab.models.quantize.compare import Comparison, Figures
from spillover.lab.models.quantize.outputs import EXACT_PICTURES


def print_report(comparison: Comparison, console: Console) -> None:
    """Print what was measured and what to run."""
    kind = "labelled" if comparison.metric else "calibration"
    table = Table(title=f"FP32 and INT8 over {comparison.pictures} {kind} pictures, one thread, interleaved")
    table.add_column("")
    table.add_column(comparison.float_model.model, justify="right")
    table.add_column(comparison.int8_model.model, justify="right")
    before, after = _column(comparison.float_model), _column(comparison.int8_model)
    names = ["file, MB", "median, ms", "peak memory of a process, MB", f"accuracy ({comparison.metric})"]
    for row in zip(names[: len(before)], before, after, strict=True):
        table.add_row(*row)
    table.add_row("agreement with FP32", "", f"{comparison.agreement:.3f}")
    table.add_row("output error over spread", "", f"{comparison.output_error:.3f}")
    table.add_row(
        f"  in exact arithmetic (first {EXACT_PICTURES})", "", f"{comparison.exact_output_error:.3f}"
    )
    console.print(table)
    if comparison.saturates:
        console.print(
            "8-bit products overflow on this processor (x86 without VNNI): use --seven-bit dense or all."
        )
    console.print(f"Recommended here: {comparison.recommendation.upper()}. {comparison.reason}.")


def _column(figures: Figures) -> list[str]:
    column = [f"{figures.size_mb:.1f}", f"{figures.median_ms:.2f}", f"{figures.peak_memory_mb:.0f}"]
    return column if figures.accuracy is None else [*column, f"{figures.accuracy:.3f}"]
