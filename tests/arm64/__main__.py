"""`make arm64`: the project on aarch64, emulated; a row for each step, exit code 1 when a goal is missed."""

import os
import sys
import time
from pathlib import Path

import click

from spillover.common.cli import run
from spillover.common.errors import SpilloverError
from spillover.lab.models.prepare.pair import prepare_pair
from spillover.lab.processes import terminable
from spillover.lab.terminal import open_console
from tests.arm64.machine import PYTHONS, build, missing_programs, project_wheel
from tests.arm64.steps import Pictures, Row, Steps

_ANSWERED, _RESIZED = 10, 40


@click.command()
@click.option(
    "--python",
    "versions",
    type=click.Choice(PYTHONS),
    multiple=True,
    default=PYTHONS,
    show_default=True,
    help="A version of Python; may be repeated.",
)
@click.option("--only", multiple=True, help="A step; may be repeated.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/arm64"),
    show_default=True,
    help="Roots, wheels, logs and results; what is there already is used again.",
)
def arm64(versions: tuple[str, ...], only: tuple[str, ...], out: Path) -> None:
    """Install the wheel and what it needs into an aarch64 root, and try it there.

    QEMU runs one process at a time as a Cortex-A76 would. That proves answers, not speed: times and memory
    are the emulator's.
    """
    if missing := missing_programs():
        click.echo(f"skipped: {'; '.join(missing)}")
        return
    out = out.resolve()
    pictures = _pictures()
    prepare_pair(console=open_console())
    wheel = project_wheel(out / "wheel")
    missed = 0
    for version in versions:
        start = time.monotonic()
        machine = build(version, wheel, out)
        count = len(list(machine.packages.glob("*.dist-info")))
        _say(version, Row("installed from wheels alone", f"{count} packages", "-", None), start)
        steps = Steps(machine, pictures, out / f"run-{version}").all()
        for name, step in steps.items():
            if only and name not in only:
                continue
            start = time.monotonic()
            if (name != "tests") and not pictures.answered:
                _say(version, Row(name, "skipped: SPILLOVER_SHARED has no pictures", "-", None), start)
                continue
            try:
                for row in step():
                    _say(version, row, start)
                    missed += row.met is False
            except SpilloverError as error:
                _say(version, Row(name, "failed", "-", met=False), start)
                click.echo(str(error), err=True)
                missed += 1
    if missed:
        click.echo(f"{missed} goals missed; logs: {out}/run-*")
        sys.exit(1)


def _pictures() -> Pictures:
    """Of the labelled sets in `$SPILLOVER_SHARED`; none where it is absent."""
    data = Path(os.environ.get("SPILLOVER_SHARED", "../shared")) / "data"
    answered = sorted((data / "imagenet-sample").glob("*.jpg"))[:: 500 // _ANSWERED][:_ANSWERED]
    resized = sorted((data / "coco-dev" / "images").glob("*.jpg"))[:_RESIZED]
    return Pictures(tuple(answered), tuple(resized))


def _say(version: str, row: Row, start: float) -> None:
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    took_s = time.monotonic() - start
    click.echo(f"{version:<6}{row.step:<58}{row.figure:<34}{row.goal:<14}{verdict:<8}{took_s:>5.0f} s")


if __name__ == "__main__":
    with terminable():
        run(arm64, "arm64")
