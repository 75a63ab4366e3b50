"""Wraps an existing ONNX file as a model folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import onnx

from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.manifest import (
    MODEL_FILE,
    Colour,
    Element,
    Input,
    Interpolation,
    Layout,
    Manifest,
    Output,
    Resize,
)
from spillover.common.tasks import spec_of
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.lab.models.folder import NO_DIGEST, building, finish
from spillover.lab.models.prepare.network import Network, Outputs, read_network
from spillover.lab.models.prepare.presets import CLASSIFIER, PRESETS, Preset
from spillover.lab.models.prepare.recognise import check_fit, recognise, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions:
    """How pictures are prepared, where the user says it; None leaves it to the network and the preset."""

    size: int | None = None
    """Pixels, square: for networks whose own input size is dynamic."""
    layout: Layout | None = None
    colour: Colour | None = None
    resize: Resize | None = None
    interpolation: Interpolation | None = None
    crop_fraction: float | None = None
    scale: float | None = None
    """Pixels are multiplied by it first: 1/255 for networks trained on 0 to 1."""
    mean: Sequence[float] | None = None
    """Subtracted after that."""
    std: Sequence[float] | None = None
    """The difference is divided by it."""

    @property
    def normalises(self) -> bool:
        """Whether it says anything of the pixels' values; then nothing of the preset's is left."""
        return any(value is not None for value in (self.scale, self.mean, self.std))

    def fields(self) -> dict[str, Any]:
        """Of `Input`: (scale * x - mean) / std is (x - mean / scale) / (std / scale)."""
        named = {
            name: value
            for name in ("colour", "resize", "interpolation", "crop_fraction")
            if (value := getattr(self, name)) is not None
        }
        if self.normalises:
            scale = self.scale or 1.0
            named["mean"] = tuple(value / scale for value in self.mean or (0.0,))
            named["std"] = tuple(value / scale for value in self.std or (1.0,))
        return named


@dataclass(frozen=True, slots=True, eq=False)
class Wrapped:
    """What was made: the manifest, the name of its preset, and what the network gives."""

    manifest: Manifest
    preset: str
    network: Network
    outputs: Outputs
    labels: Sequence[str]

    @property
    def class_count(self) -> int | None:
        """How many classes the network knows; None where nothing says it."""
        return len(self.labels) or _class_count(PRESETS[self.preset], self.outputs)


def wrap_onnx(
    source: Path,
    target: Path,
    preset: str | None = None,
    *,
    name: str,
    version: str,
    labels: Sequence[str] | None = None,
    options: PictureOptions | None = None,
    force: bool = False,
) -> Wrapped:
    """Write `target` with the network at `source`, described by `preset`, and run it once end to end.

    Without a preset, the one that fits what the network gives is taken. `labels` None takes the names that
    the network's file holds, or else the preset's. Data that lies in files beside `source` is taken into the
    one file.

    Raises:
        ConfigError: `target` exists and `force` is not set, the size or the normalisation is unknown, or a
            `model.yaml` may not hold `name` or `version`.
        ModelError: `source` cannot be read, fits no preset or not this one, or has another number of classes.
    """
    if target.exists() and not force:
        raise ConfigError(f"{target}: exists already; --force replaces it")
    options = options or PictureOptions()
    network = _sized(read_network(source, options.layout), preset, options)
    outputs = network.outputs()
    chosen = preset or recognise(network, outputs)
    if chosen is None:
        raise unknown(network, outputs)
    kind = PRESETS[chosen]
    check_fit(network, outputs, chosen, kind)
    names = _names(source, outputs, kind, network, labels)
    manifest = _manifest(kind, _input(network, kind, chosen, options), outputs, name, version)
    with building(target) as folder:
        onnx.save(network.proto, folder / MODEL_FILE)
        return Wrapped(finish(folder, manifest, names), chosen, network, outputs, names)


def _sized(network: Network, preset: str | None, options: PictureOptions) -> Network:
    found = network.input
    if options.size is None and found.height and found.width:
        return network
    side = options.size or (PRESETS[preset].side if preset else 0)
    return network.sized(*((side, side) if side else network.size_noted or (None, None)))


def _input(network: Network, preset: Preset, name: str, options: PictureOptions) -> Input:
    found = network.input
    told: dict[str, Any] = {"element": found.element}
    if found.layout is not None:
        told["layout"] = found.layout
    if found.colour is not None:
        told["colour"] = found.colour
    if name == CLASSIFIER and found.element is Element.FLOAT32 and not options.normalises:
        raise ConfigError(
            "how pictures are normalised is not in the file: --scale, --mean and --std say it, as in the "
            "network's training (--scale 1/255 alone for values of 0 to 1, --scale 1 for pixels as they are)"
        )
    return preset.input_for(found.height, found.width, **(told | options.fields()))


def _manifest(preset: Preset, spec: Input, outputs: Outputs, name: str, version: str) -> Manifest:
    decoder = preset.decoder
    if preset.task == CLASSIFICATION.name:
        decoder = "softmax" if outputs.sums_to_one else "logits"
    manifest = Manifest(
        name=name,
        version=version,
        task=preset.task,
        input=spec,
        output=Output(decoder=decoder, report_threshold=preset.report_threshold),
        sha256=NO_DIGEST,
        description=preset.description,
    )
    try:
        return msgspec.convert(msgspec.to_builtins(manifest), Manifest)
    except msgspec.ValidationError as error:
        raise ConfigError(f"model {name!r}, version {version!r}: {error}") from error


def _class_count(preset: Preset, outputs: Outputs) -> int | None:
    return spec_of(preset.task).heads[preset.decoder].class_count(outputs.shape)


def _names(
    source: Path, outputs: Outputs, preset: Preset, network: Network, named: Sequence[str] | None
) -> Sequence[str]:
    """The names of the classes: as many as there are.

    Raises:
        ModelError: they are of another number.
    """
    count = _class_count(preset, outputs)
    if named is not None:
        if named and count not in {None, len(named)}:
            raise ModelError(
                f"{source}: the network gives {outputs}, which is {count} classes; "
                f"--labels names {len(named)}"
            )
        return named
    if (noted := network.names_noted) and count in {None, len(noted)}:
        return noted
    if preset.classes and preset.classes != count:
        raise ModelError(
            f"{source}: the network gives {outputs}, which is {count} classes; the preset is for "
            f"{preset.classes} ({preset.description}): --preset {CLASSIFIER}, or --labels, one name a line"
        )
    names = preset.label_names()
    if names and count not in {None, len(names)}:
        raise ModelError(
            f"{source}: the network gives {outputs}, which is {count} classes, not the {len(names)} of the "
            "preset: name them with --labels, one a line"
        )
    return names
