"""The tables of `bench-cloud`, its goals, and its figures as JSON."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.cloud.bench import Cell, Outcome, Plan
from benchmarks.cloud.networks import NETWORKS

OURS, RIVAL = "spillover", "triton"


def write_json(outcome: Outcome, plan: Plan, path: Path) -> None:
    """All figures, and how they were measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"plan": plan, "outcome": outcome}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2))


def print_report(outcome: Outcome, console: Console) -> None:
    """One table a network, then memory, then the goals."""
    for spec in NETWORKS.values():
        table = Table(title=f"{spec.name}: {spec.about}", title_justify="left")
        for heading in ("C", "server", "infer/s", "of raw", "p50 ms", "p99 ms", "CPU ms/request"):
            table.add_column(heading, justify="left" if heading == "server" else "right")
        cells = [cell for cell in outcome.cells if cell.network == spec.name]
        for cell in sorted(cells, key=lambda cell: cell.concurrency):
            table.add_row(
                str(cell.concurrency),
                cell.contender,
                f"{cell.rate:.0f}",
                f"{cell.of_raw:.2f}",
                f"{cell.p50_ms:.2f}",
                f"{cell.p99_ms:.2f}",
                f"{cell.cpu_ms:.2f}",
            )
        console.print(table)
    memory = ", ".join(f"{name} {mb:.0f} MB" for name, mb in outcome.memory_mb.items())
    console.print(f"memory with all three networks: {memory}")
    if outcome.growth_mb is not None:
        console.print(
            f"growth of {OURS} over 50 000 requests, after as many before: {outcome.growth_mb:+.1f} MB"
        )
    for name, reason in outcome.missing.items():
        console.print(f"not measured: {name}: {reason}", markup=False)
    for goal, figure, met in goals(outcome):
        console.print(f"{'met ' if met else 'MISSED'}  {goal}: {figure}", markup=False)


def goals(outcome: Outcome) -> Iterator[tuple[str, str, bool]]:
    """Each goal that can be judged from what was measured: its text, the figure, whether it is met."""
    found = {(cell.contender, cell.network, cell.concurrency): cell for cell in outcome.cells}
    for (contender, network, concurrency), ours in found.items():
        rival = found.get((RIVAL, network, concurrency))
        if contender != OURS:
            continue
        if rival:
            yield _against(ours, rival)
        if network == "resnet18" and concurrency >= 4:
            yield f"resnet18, C={concurrency}: >= .97 of raw", f"{ours.of_raw:.2f}", ours.of_raw >= 0.97
        if network == "mlp" and concurrency >= 64:
            batched = ours.of_raw_batched
            yield f"mlp, C={concurrency}: >= .80 of raw in batches", f"{batched:.2f}", batched >= 0.8


def _against(ours: Cell, rival: Cell) -> tuple[str, str, bool]:
    where = f"{ours.network}, C={ours.concurrency}"
    if ours.network == "identity":
        ratio = rival.cpu_ms / ours.cpu_ms if ours.cpu_ms else 0.0
        return f"{where}: >= .6 of {RIVAL} a CPU second", f"{ratio:.2f}", ratio >= 0.6
    ratio = ours.rate / rival.rate
    return f"{where}: >= {RIVAL}", f"{ratio:.2f}", ratio >= 1.0
