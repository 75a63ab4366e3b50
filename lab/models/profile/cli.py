"""`spillover lab profile`: runs on a Pi with the packages of the edge alone."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from spillover.lab.params import FILE, MODEL, OUTPUT, threads_option

if TYPE_CHECKING:
    from spillover.common.model.split import DeviceProfile


@click.command()
@click.argument("model", type=MODEL)
@click.option("--device", default="", help="What to call this device; its host name unless given.")
@threads_option
@click.option(
    "--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="Runs of each part."
)
@click.option(
    "--json", "json_path", type=OUTPUT, help="Write the profile here and leave split.yaml as it is."
)
@click.option("--merge", type=FILE, multiple=True, help="Measure nothing; add this profile. May be repeated.")
def profile(
    model: Path, device: str, threads: int, rounds: int, json_path: Path | None, merge: tuple[Path, ...]
) -> None:
    """Time the heads and tails of a split MODEL folder on this device.

    Heads, tails and the whole network are timed as wholes, in turn, and the medians go into split.yaml. To
    profile a Pi: copy the model folder there, run this with --json pi.json, copy pi.json back, and run this
    with --merge pi.json on the workbench.
    """
    import msgspec

    from spillover.common.model.manifest import open_model_folder
    from spillover.common.model.split import open_split_plan, write_split_plan
    from spillover.lab.models.profile.timing import merged, profile_plan

    folder = open_model_folder(model)
    plan = open_split_plan(folder)
    profiles = [_read(path) for path in merge] or [profile_plan(folder, plan, device, threads, rounds)]
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(profiles[0])) + b"\n")
    else:
        write_split_plan(model, msgspec.structs.replace(plan, profiles=merged(plan, profiles)))
    for measured in profiles:
        _print(measured)


def _read(path: Path) -> "DeviceProfile":
    import msgspec

    from spillover.common.errors import ConfigError
    from spillover.common.model.split import DeviceProfile

    try:
        return msgspec.json.decode(path.read_bytes(), type=DeviceProfile)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: not a profile: {error}") from error


def _print(profile: "DeviceProfile") -> None:
    click.echo(f"{profile.device}: whole {profile.whole_s * 1e3:.1f} ms")
    for name, head_s in profile.head_s.items():
        click.echo(f"  {name}: head {head_s * 1e3:.1f} ms, tail {profile.tail_s[name] * 1e3:.1f} ms")
