"""Wraps an existing ONNX file as a model folder."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import onnx

from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.manifest import MODEL_FILE, Layout, Manifest, Output
from spillover.lab.models.folder import NO_DIGEST, building, finish
from spillover.lab.models.prepare.presets import Preset


def wrap_onnx(
    source: Path,
    target: Path,
    preset: Preset,
    *,
    name: str,
    version: str,
    labels: Sequence[str],
    size: int | None = None,
    force: bool = False,
) -> Manifest:
    """Write `target` with the network at `source`, described by `preset`, and run it once end to end.

    `size` (pixels, square) is for networks whose own input size is dynamic. Data that lies in files beside
    `source` is taken into the one file.

    Raises:
        ConfigError: `target` exists and `force` is not set, the size is unknown, or a `model.yaml` may not
            hold `name` or `version`.
        ModelError: `source` cannot be read, or does not fit the preset.
    """
    if target.exists() and not force:
        raise ConfigError(f"{target}: exists already; --force replaces it")
    try:
        network = onnx.load(source)
        onnx.checker.check_model(network)
    except Exception as error:  # protobuf, ONNX and the file system have no common error
        raise ModelError(f"{source}: not an ONNX network: {error}") from error
    height, width = _input_size(network.graph, preset, size)
    manifest = Manifest(
        name=name,
        version=version,
        task=preset.task,
        input=preset.input_for(height, width),
        output=Output(decoder=preset.decoder),
        sha256=NO_DIGEST,
        description=preset.description,
    )
    try:
        manifest = msgspec.convert(msgspec.to_builtins(manifest), Manifest)
    except msgspec.ValidationError as error:
        raise ConfigError(f"model {name!r}, version {version!r}: {error}") from error
    with building(target) as folder:
        onnx.save(network, folder / MODEL_FILE)
        return finish(folder, manifest, labels)


def _input_size(graph: onnx.GraphProto, preset: Preset, size: int | None) -> tuple[int, int]:
    """Height and width: what the network fixes, else `size`."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    axes = [axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    if len(axes) != 4:
        raise ModelError("the network must have one input of four axes: batch, channels, height, width")
    nhwc = preset.input.get("layout") is Layout.NHWC
    height, width = (axes[1], axes[2]) if nhwc else (axes[2], axes[3])
    if size is None and not (height and width):
        raise ConfigError("the network's input size is dynamic: name one with --size")
    return height or size or 0, width or size or 0
