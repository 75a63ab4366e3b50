"""Static QDQ quantisation by ONNX Runtime: a float network and pictures in, an INT8 network out."""

import contextlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from spillover.common.errors import ModelError, SpilloverError
from spillover.common.model.manifest import Manifest
from spillover.common.model.runtimes.onnxruntime import quantization_tools
from spillover.common.tasks import spec_of
from spillover.lab.data.pictures import Picture
from spillover.lab.models.quantize.calibration import PictureReader, chunk_of
from spillover.lab.models.quantize.layers import dense_weights, excluded_nodes, float_nodes, name_nodes
from spillover.lab.models.quantize.recipe import Activations, Method, Recipe, SevenBit
from spillover.lab.terminal import Progress

# Per-channel QuantizeLinear begins with opset 13; 17 is what this project writes.
MIN_OPSET, TARGET_OPSET = 13, 17

# ONNX Runtime's names.
_METHODS = {Method.MINMAX: "MinMax", Method.PERCENTILE: "Percentile", Method.ENTROPY: "Entropy"}
_ACTIVATIONS = {Activations.U8: "QUInt8", Activations.S8: "QInt8"}


@dataclass(frozen=True, slots=True)
class Quantized:
    """The names of the nodes left float, and the number of calibration pictures."""

    float_nodes: tuple[str, ...]
    pictures: int


def quantize_onnx(
    source: Path,
    target: Path,
    manifest: Manifest,
    recipe: Recipe,
    pictures: Sequence[Picture],
    progress: Progress,
) -> Quantized:
    """Write the network at `source`, quantised by `recipe`, to `target`. `manifest` describes `source`.

    MINMAX keeps two numbers a tensor and picture; PERCENTILE and ENTROPY work through the pictures in chunks
    of bounded size (and leave out the rest of an uneven division).

    Raises:
        ConfigError: a pattern in `recipe.exclude` is wrong.
        SourceError: a calibration picture cannot be read.
        ModelError: ONNX Runtime cannot quantise this network.
    """
    pictures = pictures[: recipe.max_pictures]
    with tempfile.TemporaryDirectory(prefix="spillover-quantize-") as folder:
        simplified = Path(folder, "simplified.onnx")
        try:
            model = _simplified(source, simplified)
            kept = excluded_nodes(model.graph, recipe.exclude)
            kept |= float_nodes(model.graph, recipe.float_layers, locates=spec_of(manifest.task).locates)
            chunk = len(pictures) if recipe.method is Method.MINMAX else chunk_of(model.graph, len(pictures))
            pictures = pictures[: len(pictures) // chunk * chunk]
            reader = PictureReader(pictures, model.graph.input[0].name, manifest.own_input, progress)
            options = _extra_options(model.graph, kept, recipe) | {"CalibStridedMinMax": chunk}
            _quantize(simplified, target, recipe, reader, sorted(kept), options)
        except SpilloverError:
            raise
        except Exception as error:  # ONNX and ONNX Runtime share no base class of errors
            raise ModelError(f"{source}: cannot be quantised: {error}") from error
    return Quantized(tuple(sorted(kept)), len(pictures))


def _simplified(source: Path, target: Path) -> onnx.ModelProto:
    """Constants folded, shapes inferred, batch norms merged, every node named, opset recent enough."""
    model = onnx.load(source)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < MIN_OPSET:
        model = onnx.version_converter.convert_version(model, TARGET_OPSET)
    # A resized batch of free length gets another symbol than the batch it came from: these are one.
    quantization_tools().quant_pre_process(model, str(target), auto_merge=True)
    simplified = onnx.load(target)
    name_nodes(simplified)
    onnx.save(simplified, target)
    return simplified


def _extra_options(graph: onnx.GraphProto, float_nodes: set[str], recipe: Recipe) -> dict[str, Any]:
    if recipe.seven_bit is not SevenBit.DENSE:
        return {}
    narrow = {"quant_type": quantization_tools().QuantType.QInt8, "symmetric": True, "reduce_range": True}
    return {
        "TensorQuantOverrides": {
            weight: [narrow | {"axis": axis}] for weight, axis in dense_weights(graph, float_nodes).items()
        }
    }


def _quantize(
    source: Path,
    target: Path,
    recipe: Recipe,
    reader: PictureReader,
    float_nodes: list[str],
    options: dict[str, Any],
) -> None:
    tools = quantization_tools()
    # The histogram methods print to standard output, which belongs to this command's own report.
    with contextlib.redirect_stdout(io.StringIO()):
        tools.quantize_static(
            source,
            target,
            reader,
            quant_format=tools.QuantFormat.QDQ,
            activation_type=tools.QuantType[_ACTIVATIONS[recipe.activations]],
            weight_type=tools.QuantType.QInt8,
            per_channel=True,
            reduce_range=recipe.seven_bit is SevenBit.ALL,
            calibrate_method=tools.CalibrationMethod[_METHODS[recipe.method]],
            nodes_to_exclude=float_nodes,
            extra_options=options,
        )
