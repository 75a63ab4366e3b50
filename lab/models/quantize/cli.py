"""`spillover lab quantize`."""

from pathlib import Path
from typing import Any

import click

from spillover.lab.params import EXISTING, FOLDER, MODEL, OUTPUT

FEW_PICTURES = 16
"""With fewer, the ranges of activations are uncertain."""


@click.command()
@click.argument("model", type=MODEL)
@click.option(
    "--calibration",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of pictures like those to come.",
)
@click.option("--out", type=FOLDER, help="Default: <name>-int8/<version> beside it.")
@click.option(
    "--activations",
    type=click.Choice(["u8", "s8"]),
    default="u8",
    show_default=True,
    help="Type of activations: unsigned or signed.",
)
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "entropy"]),
    default="minmax",
    show_default=True,
    help="How the range of activations is chosen from the calibration pictures.",
)
@click.option(
    "--seven-bit",
    type=click.Choice(["dense", "all", "none"]),
    default="dense",
    show_default=True,
    help="Weights held to 7 bits, so that sums do not overflow on x86 without VNNI.",
)
@click.option("--exclude", multiple=True, metavar="REGEX", help="Leave float the nodes whose name it finds.")
@click.option(
    "--float-layers",
    type=click.Choice(["sensitive", "ends", "none"]),
    default="sensitive",
    show_default=True,
    help="What stays float: see above.",
)
@click.option(
    "--pictures",
    "max_pictures",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Calibrate on at most.",
)
@click.option(
    "--data",
    type=EXISTING,
    help="Labelled pictures to judge by: labels.csv, COCO instances.json, or .npz.",
)
@click.option("--json", "json_path", type=OUTPUT, help="Figures go here.")
@click.option("--force", is_flag=True, help="Replace the output folder.")
def quantize(
    model: Path,
    calibration: Path,
    out: Path | None,
    data: Path | None,
    json_path: Path | None,
    *,
    force: bool,
    **settings: Any,  # noqa: ANN401 - Recipe types them
) -> None:
    """Quantise MODEL (a folder or a prepared name) to INT8 and measure both on this device.

    Static QDQ quantisation by ONNX Runtime: weights signed and per channel, activations by their ranges on
    the calibration pictures. The stem stays float; of a detector also depthwise and prediction convolutions,
    activations and box decoding, which 8 bits spoil in many networks (`sensitive`). One of plain convolutions
    and ReLUs is faster with only its ends float: stem, prediction convolutions, box decoding (`ends`).

    The report says what INT8 gains and costs here: on some devices and networks it is slower than FP32. It
    recommends FP32 where INT8 is not faster, loses more than 5 % of the accuracy (--data), or without labels
    agrees with FP32 on less than 0.8 of the answers.
    """
    from dataclasses import asdict

    import msgspec

    from spillover.lab.data.labelled import open_labelled_set
    from spillover.lab.files import write_json
    from spillover.lab.models.quantize.comparison import print_comparison
    from spillover.lab.models.quantize.quantization import default_target, quantize_folder
    from spillover.lab.models.quantize.recipe import Recipe
    from spillover.lab.terminal import Bar, open_console

    recipe = msgspec.convert(settings, Recipe)
    labelled = open_labelled_set(data) if data else None
    target = out or default_target(model)
    outcome = quantize_folder(model, target, calibration, recipe, labelled, Bar(), force=force)
    console = open_console()
    print_comparison(outcome.comparison, console)
    if outcome.quantized.pictures < FEW_PICTURES:
        console.print(
            f"Warning: the ranges come from {outcome.quantized.pictures} pictures alone; take {FEW_PICTURES} "
            "or more, like those the camera will see."
        )
    console.print(f"Written: {outcome.folder.path}", soft_wrap=True)
    if json_path is not None:
        made = {
            "recipe": msgspec.to_builtins(recipe),
            "calibration_pictures": outcome.quantized.pictures,
            "float_nodes": outcome.quantized.float_nodes,
        }
        write_json(json_path, asdict(outcome.comparison) | made)
