"""`make chaos`: cycles of faults against real processes; exit code 1 when a promise is broken.

After every cycle the edge must be alive and its books balance so far; after the last one the link is healed,
the spool drained, and nothing that was accepted may be missing.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from spillover.lab.processes import terminable
from spillover.lab.runs.check.frame_accounting import AuditReport
from tests.chaos.disk import CannotHappenHereError
from tests.chaos.faults import FAULTS, edge_killed
from tests.chaos.field import Field, Sample

_WARM_UP_SAMPLES = 2
_MAX_GROWTH_MB = 30.0
_MAX_DESCRIPTOR_GROWTH = 12


def main() -> int:
    """Run the cycles that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="stretches the faults; 20 gives cuts of a minute"
    )
    parser.add_argument("--only", default="", help="name of one fault")
    options = parser.parse_args()
    with terminable(), tempfile.TemporaryDirectory(prefix="spillover-chaos-") as folder:
        violations = chaos(Path(folder), options.cycles, options.seed, options.scale, options.only)
    for violation in violations:
        click.echo(f"VIOLATION {violation}")
    click.echo(
        f"{options.cycles} cycles: {'every promise held' if not violations else 'promises were broken'}"
    )
    return 1 if violations else 0


def chaos(folder: Path, cycles: int, seed: int, scale: float, only: str = "") -> list[str]:
    """Run `cycles` faults; what was broken."""
    rng = random.Random(seed)
    faults = [fault for fault in FAULTS if fault.__name__ == only or not only]
    field = Field(folder, scale)
    try:
        for cycle in range(cycles):
            # Each fault once before any is repeated, so that a short run meets them all.
            fault = faults[cycle % len(faults)] if cycle < len(faults) else rng.choice(faults)
            try:
                fault(field, rng)
            except CannotHappenHereError as why:
                click.echo(f"skipped {fault.__name__}: {why}")
            field.heal()
            # A kill makes the edge begin anew; what other faults leave behind shows a little later.
            time.sleep((0.1 if fault is edge_killed else 0.3) + 0.7 * rng.random() ** 2)
            sample = field.sample()
            verdict = field.verdict()
            _say(cycle, fault.__name__, sample, verdict)
            if verdict.violations:
                return list(verdict.violations)
        field.drain()
        code = field.edge.stop()
        verdict = field.verdict()
        _say(cycles, "all healed", field.samples[-1], verdict)
        exit_violations = [f"the edge ended with {code}"] if code else []
        return [*exit_violations, *verdict.violations, *_leaks(field.samples)]
    finally:
        field.close()


def _say(cycle: int, name: str, sample: Sample, verdict: AuditReport) -> None:
    pending = sample.look.metrics.get("spillover_edge_spool_pending", 0)
    click.echo(
        f"{sample.at_s:7.1f} s  cycle {cycle:4} {name:16} frames {verdict.frames:6} {dict(verdict.endings)} "
        f"accepted {verdict.accepted} {dict(verdict.fates)} pending {pending:.0f} "
        f"own {sample.look.own_mb:.0f} MB fds {sample.look.descriptors}"
    )


def _leaks(samples: list[Sample]) -> list[str]:
    """Memory and descriptors of each run of the edge, from when it was warm."""
    found = []
    for boot, count in Counter(sample.boot for sample in samples).items():
        own = [sample for sample in samples if sample.boot == boot][_WARM_UP_SAMPLES:]
        if count <= _WARM_UP_SAMPLES + 2:
            continue
        growth_mb = own[-1].look.own_mb - own[0].look.own_mb
        descriptors = own[-1].look.descriptors - own[0].look.descriptors
        if growth_mb > _MAX_GROWTH_MB:
            found.append(f"run {boot} of the edge grew by {growth_mb:.0f} MB")
        if descriptors > _MAX_DESCRIPTOR_GROWTH:
            found.append(f"run {boot} of the edge opened {descriptors} descriptors and kept them")
    return found


if __name__ == "__main__":
    sys.exit(main())
