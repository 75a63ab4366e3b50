"""The command `spillover doctor`."""

import sys
from pathlib import Path

import click

from spillover.common.log import configure_logging, end_process


@click.command(epilog="Exit codes: 0 nothing failed, warnings or not; 1 something failed; 2 wrong usage.")
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The daemon's configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
def doctor(config_path: Path, *, as_json: bool) -> None:
    """Check everything that an edge daemon needs: on the device, with its camera, cloud and broker.

    Configuration, model, labels, policy, certificate and folders; then each camera with its measured rate,
    the model's time a frame, the cloud with round trip and rate, clock, broker, disks, memory, temperature,
    and other programs on the same files. Each check has a time limit, and none stops another. A daemon that
    runs is left alone: it tells the rate of a camera that it holds.

    Run it as the user of the daemon, or rights and folders are those of another. The first half alone,
    without touching devices or network, is `spillover edge --check`.
    """
    from spillover.edge.doctor.examine import examine  # --help need not load a model runtime

    configure_logging("error")
    code, left_behind = examine(config_path, click.echo, as_json=as_json)
    leave(code, left_behind)


def leave(code: int, left_behind: list[str]) -> None:
    """End the process; by force where a check hangs."""
    if left_behind:
        sys.stdout.flush()
        end_process(code, "ended", left_behind=left_behind)
    sys.exit(code)
