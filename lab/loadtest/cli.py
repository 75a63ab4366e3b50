"""The command `spillover lab loadtest`."""

import os
import threading
from pathlib import Path

import click

from spillover.lab.params import EXISTING, FILE, FOLDER

EXIT_GOAL_MISSED = 6


@click.command()
@click.option(
    "-c",
    "--config",
    "config_path",
    type=FILE,
    help="What to run; examples/load.yaml explains every key.",
)
@click.option(
    "--out",
    type=FOLDER,
    default=Path("out/loadtest"),
    show_default=True,
    help="Report, configurations, logs and results go here.",
)
@click.option("--scenario", "only", multiple=True, help="Run this scenario alone; may be repeated.")
@click.option(
    "--remote", is_flag=True, help="Allow traffic to addresses that are not on the loopback interface."
)
@click.option(
    "--compare",
    nargs=2,
    type=EXISTING,
    metavar="BEFORE AFTER",
    help="Run nothing; compare two reports (report.json, or their folders) and write compare.html to --out.",
)
@click.option(
    "--strict",
    is_flag=True,
    help=f"Exit with code {EXIT_GOAL_MISSED} when a goal is missed, or (--compare) a figure got worse.",
)
@click.pass_context
def loadtest(
    context: click.Context,
    config_path: Path | None,
    out: Path,
    only: tuple[str, ...],
    remote: bool,
    compare: tuple[Path, Path] | None,
    strict: bool,
) -> None:
    """Run modes side by side over the same frames and links, and write one report.

    A cloud process is started on the loopback interface, or one at `cloud.address` is used. Real edge
    daemons, or thousands of simulated ones, reach it over a shaped link. Repeats are interleaved between the
    modes; figures are medians with the range of the repeats.

    Nothing is sent to another machine unless --remote is given.
    """
    failed = _compare(*compare, out) if compare else _run(config_path, out, only, remote=remote)
    if strict and failed:
        context.exit(EXIT_GOAL_MISSED)


@click.command("loadtest-generator")
@click.option("--listen", default="127.0.0.1:7070", show_default=True, help="host:port; port 0 picks one.")
@click.option(
    "--ready-file", type=click.Path(path_type=Path), help="Write the bound address here once it listens."
)
@click.option("--remote", is_flag=True, help="Take jobs whose server is not on this machine.")
def generator(listen: str, ready_file: Path | None, remote: bool) -> None:
    """Play simulated edges for a load test that runs on another host, until SIGTERM.

    Name its address in `generators` of load.yaml. The token in $SPILLOVER_LOADTEST_TOKEN must be the same on
    both sides; without one it listens on the loopback interface alone. The wire is not encrypted: use it
    inside a network that you trust.
    """
    from spillover.edge.cli import signals_to
    from spillover.lab.loadtest.simulated.bench import TOKEN_VARIABLE
    from spillover.lab.loadtest.simulated.remote import serving_generator

    stop = threading.Event()
    token = os.environ.get(TOKEN_VARIABLE, "")
    with serving_generator(listen, token, remote=remote) as address, signals_to(lambda _: stop.set()):
        click.echo(f"generator listens on {address}", err=True)
        if ready_file:
            ready_file.write_text(address, encoding="utf-8")
        stop.wait()


def _run(config_path: Path | None, out: Path, only: tuple[str, ...], *, remote: bool) -> bool:
    """Run the test; returns whether a goal was missed."""
    if config_path is None:
        raise click.UsageError("Missing option '-c' / '--config'; examples/load.yaml is a place to start.")
    from spillover.common.config import load_config
    from spillover.lab.loadtest.config import LoadConfig
    from spillover.lab.loadtest.load_test import LoadTest, Settings
    from spillover.lab.loadtest.paths import placed
    from spillover.lab.terminal import open_console

    config = placed(load_config(config_path, LoadConfig), config_path.parent)
    for name in only:
        if name not in config.scenarios:
            known = ", ".join(config.scenarios)
            raise click.BadParameter(f"{name!r}; there are {known}", param_hint="--scenario")
    report = LoadTest(config, Settings(out, remote, only), open_console()).run()
    return any(goal.met is False for goal in report.goals)


def _compare(before_path: Path, after_path: Path, out: Path) -> bool:
    """Compare two reports; returns whether anything got worse."""
    from spillover.lab.loadtest.comparison import changes, print_changes, write_comparison
    from spillover.lab.loadtest.results import read_report
    from spillover.lab.terminal import open_console

    before, after = read_report(before_path), read_report(after_path)
    changed = changes(before, after)
    out.mkdir(parents=True, exist_ok=True)
    write_comparison(before, after, changed, out / "compare.html")
    print_changes(changed, open_console())
    return any(change.verdict == "worse" for change in changed)
