"""The command `spillover lab loadtest`."""

from pathlib import Path

import click

EXIT_GOAL_MISSED = 6


@click.command()
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What to run; examples/load.yaml explains every key.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out/loadtest"),
    show_default=True,
    help="Report, configurations, logs and results go here.",
)
@click.option("--scenario", "only", multiple=True, help="Run this scenario alone; may be repeated.")
@click.option(
    "--remote", is_flag=True, help="Allow traffic to addresses that are not on the loopback interface."
)
@click.option("--strict", is_flag=True, help=f"Exit with code {EXIT_GOAL_MISSED} when a goal is missed.")
@click.pass_context
def loadtest(
    context: click.Context,
    config_path: Path | None,
    out: Path,
    only: tuple[str, ...],
    remote: bool,
    strict: bool,
) -> None:
    """Run modes side by side over the same frames and links, and write one report.

    A cloud process is started on the loopback interface, or one at `cloud.address` is used. Real edge
    daemons, or thousands of simulated ones, reach it over a link that is shaped in user space. Repeats are
    interleaved between the modes; figures are medians with the interval of the repeats.

    Nothing is sent to another machine unless --remote is given.
    """
    if config_path is None:
        raise click.UsageError("Missing option '-c' / '--config'; examples/load.yaml is a place to start.")
    from common.config import load_config
    from lab.console import open_console
    from lab.loadtest.config import LoadConfig
    from lab.loadtest.run import LoadTest, Settings

    config = load_config(config_path, LoadConfig)
    for name in only:
        if name not in config.scenarios:
            raise click.BadParameter(
                f"{name!r}; there are {', '.join(config.scenarios)}", param_hint="--scenario"
            )
    report = LoadTest(config, Settings(out, remote, only), open_console()).run()
    if strict and any(goal.met is False for goal in report.goals):
        context.exit(EXIT_GOAL_MISSED)
