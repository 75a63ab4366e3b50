"""`make attack`: every attempt against a real server, one table; exit code 1 when a row fails."""

import argparse
import resource
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

import tests.attack.attempts  # noqa: F401 - fills the list
from spillover.lab.processes import terminable
from tests.attack.suite import ATTEMPTS, Attempt, Row, run
from tests.attack.world import World

_WIDTH = 200


def main() -> int:
    """Make the attempts that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this attempt; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="name the attempts, and end")
    parser.add_argument("--short", action="store_true", help="the short half, with smaller numbers")
    parser.add_argument("--front", choices=["envoy"], help="attack through this proxy")
    parser.add_argument(
        "--json", type=Path, default=Path("out/attack.json"), help="where the rows go as JSON"
    )
    options = parser.parse_args()
    if unknown := sorted(set(options.only) - ATTEMPTS.keys()):
        parser.error(f"no such attempt: {', '.join(unknown)}; --list names them")
    console = Console(width=_WIDTH)
    if options.list:
        for one in ATTEMPTS.values():
            console.print(
                f"{one.name:45} {one.kind.mode.value:6} {'short' if one.short else '':6} {one.sentence}",
                highlight=False,
            )
        return 0
    allow_many_sockets()
    rows = []
    with terminable(), World.created(front=bool(options.front)) as world:
        for one in chosen(options.only, short=options.short, front=options.front):
            rows.append(run(one, world, short=options.short))
            _say(console, rows[-1])
    console.print(table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    failed = [row.name for row in rows if row.failures]
    console.print(
        f"{len(rows)} attempts, {len(failed)} failed{': ' + ', '.join(failed) if failed else ''}",
        highlight=False,
    )
    return 1 if failed else 0


def allow_many_sockets() -> None:
    """As many open files as this process may have: an attacker has thousands of connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def chosen(only: list[str], *, short: bool, front: str | None = None) -> list[Attempt]:
    """The attempts, those on the same kind of server next to each other."""
    found = [
        one
        for one in ATTEMPTS.values()
        if (one.name in only if only else one.short or not short) and not (front and one.direct_only)
    ]
    return sorted(
        found,
        key=lambda one: (one.kind.mode.value, one.kind.fresh, one.kind.own_models, one.kind.descriptors),
    )


def table(rows: list[Row]) -> Table:
    """The rows as people read them."""
    made = Table(box=None, pad_edge=False)
    for name in ("attempt", "mode", "statuses", "alive"):
        made.add_column(name, overflow="fold")
    for name in ("rest MB", "before", "peak", "after", "calls", "failed", "p50 ms", "p99 ms"):
        made.add_column(name, justify="right")
    made.add_column("verdict", overflow="fold")
    for row in rows:
        made.add_row(
            row.name,
            row.mode,
            ", ".join(f"{count} {status}" for status, count in sorted(row.statuses.items())),
            "ended" if row.ends else "yes" if row.alive else "NO",
            *(f"{size:.0f}" for size in (row.at_rest_mb, row.before_mb, row.peak_mb, row.after_mb)),
            str(row.good.calls),
            str(sum(row.good.failures.values())),
            *(f"{row.good.quantile_ms(share):.0f}" for share in (0.5, 0.99)),
            "; ".join(row.failures) or _good(row),
        )
    return made


def _good(row: Row) -> str:
    """`good`, and what was not judged."""
    if row.front_bounds:
        return "good; memory has a bound behind a proxy alone"
    return "good; nobody can be told apart" if row.shared else "good"


def _say(console: Console, row: Row) -> None:
    console.print(
        f"{row.seconds:5.1f} s  {row.name}: {'; '.join(row.failures) or _good(row)}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
