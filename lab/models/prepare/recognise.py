"""Recognises a network by the shape of what it gives, and says what is wrong where a preset does not fit."""

import math

import numpy as np

from spillover.common.errors import ModelError
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.lab.models.prepare.network import Network, NetworkInput, Outputs
from spillover.lab.models.prepare.presets import CLASSIFIER, PRESETS, Preset

_STRIDES = (8, 16, 32)
_LARGE_STRIDES = (8, 16, 32, 64)
"""Of the large variants, such as YOLOv5m6."""
_ANCHORS = 3
_BOX_COLUMNS = 6
_UNDECODED_TASKS = frozenset({"segment", "pose", "obb"})
"""As Ultralytics notes them."""


def recognise(network: Network, outputs: Outputs) -> str | None:
    """The name of the preset for a network with these outputs; None where there is none, or no telling."""
    if network.task_noted in _UNDECODED_TASKS:
        return None
    match decoder_of(outputs):
        case "logits":
            return _classifier(network, outputs)
        case None:
            return None
        case "yolov5" if outputs.shape[0] == _cells(outputs.input):
            return "yolox-decoded"
        case "yolov5":
            return "yolov5"
        case decoder:
            return next(name for name, preset in PRESETS.items() if preset.decoder == decoder)


def decoder_of(outputs: Outputs) -> str | None:
    """The decoder that reads outputs of this shape; `logits` for both kinds of classifiers."""
    shape, size = outputs.shape, outputs.input
    if _are_levels(outputs):
        return "nanodet"
    if len(shape) == 3 and shape[1:] != (1, 1):
        return "fastestdet" if shape[0] > 5 and _divides(*shape[1:], size) else None
    if len(shape) == 2:
        found = _decoder_of_rows(*shape, size)
        return "yolov5" if found == "yolox" and _decoded(outputs) else found
    return "logits" if len(shape) in {1, 3} else None


def _decoder_of_rows(rows: int, columns: int, size: NetworkInput) -> str | None:
    """Rows are boxes, or columns are."""
    fits = {
        "yolox": rows == _cells(size) and columns >= _BOX_COLUMNS,
        "yolov5": rows in _anchored(size) and columns >= _BOX_COLUMNS,
        "end2end": columns == _BOX_COLUMNS,
        "yolov8": columns in {_cells(size), _cells(size, _LARGE_STRIDES)} and rows > 4,
    }
    return next((decoder for decoder, does in fits.items() if does), None)


def _are_levels(outputs: Outputs) -> bool:
    """Whether there are scores for the cells of each stride, and then four distributions for the same."""
    size = outputs.input
    cells = [-(-size.height // stride) * -(-size.width // stride) for stride in _STRIDES]
    shapes = [array.shape for array in outputs.arrays]
    if len(shapes) != 2 * len(cells) or any(len(shape) != 2 for shape in shapes):
        return False
    return [shape[0] for shape in shapes] == 2 * cells and not any(s[1] % 4 for s in shapes[len(cells) :])


def _decoded(outputs: Outputs) -> bool:
    """Whether the first two columns are pixels of the picture, and not offsets in cells of 8 to 32 pixels.

    Centres in pixels spread over the whole picture, whatever it shows; offsets are a few cells at most.
    """
    low, high = np.percentile(outputs.arrays[0][:, :2].astype(np.float64), [5, 95])
    return bool(high - low > min(outputs.input.width, outputs.input.height) / 4)


def check_fit(network: Network, outputs: Outputs, name: str, preset: Preset) -> None:
    """Raises ModelError, which says what the preset expects and which one would fit."""
    size, source = outputs.input, network.path
    if preset.side and (size.width, size.height) != (preset.side, preset.side):
        raise ModelError(
            f"{source}: the network takes pictures of {size.width}x{size.height}; preset {name} "
            f"({preset.description}) expects {preset.side}x{preset.side}{_hint(network, outputs, name)}"
        )
    if network.task_noted in _UNDECODED_TASKS:
        raise unknown(network, outputs)
    found = decoder_of(outputs)
    if {name, recognise(network, outputs)} == {"yolox", "yolox-decoded"}:
        state = "decoded already" if name == "yolox" else "not decoded yet"
        raise ModelError(f"{source}: the boxes of {outputs} are {state}{_hint(network, outputs, name)}")
    if found != preset.decoder and not (found == "logits" and preset.task == CLASSIFICATION.name):
        raise ModelError(
            f"{source}: the network gives {outputs}; preset {name} expects {_expected(preset, size)}"
            f"{_hint(network, outputs, name)}"
        )


def unknown(network: Network, outputs: Outputs) -> ModelError:
    """The error for a network that no preset is recognised for."""
    source = network.path
    if network.task_noted in _UNDECODED_TASKS:
        return ModelError(
            f"{source}: its exporter notes task {network.task_noted!r}, which no preset decodes"
        )
    if decoder_of(outputs) == "logits":
        return ModelError(
            f"{source}: a classifier of {math.prod(outputs.shape)} classes; how its pictures are normalised "
            f"is not in the file: name --preset {CLASSIFIER} with --scale, --mean and --std as in its "
            "training, and --labels"
        )
    known = sorted({preset.decoder for preset in PRESETS.values() if preset.task == DETECTION.name})
    return ModelError(
        f"{source}: the network gives {outputs}, which is the output of no network known here "
        f"({', '.join(known)}, classifiers)"
    )


def _classifier(network: Network, outputs: Outputs) -> str | None:
    """The preset of a classifier, by what is known of its size and number of classes."""
    if network.task_noted == "classify":
        return "yolov8-cls"
    classes = math.prod(outputs.shape)
    size = outputs.input
    for name, preset in PRESETS.items():
        if preset.side == size.width == size.height and preset.classes == classes:
            probabilities = preset.decoder == "softmax"
            if outputs.sums_to_one == probabilities:
                return name
    return "imagenet" if classes == PRESETS["imagenet"].classes and size.channels != 1 else None


def _hint(network: Network, outputs: Outputs, name: str) -> str:
    other = recognise(network, outputs)
    if other is not None and other != name:
        return f"; this looks like {other}: --preset {other}"
    if decoder_of(outputs) == "logits" and name != CLASSIFIER:
        return f"; for a classifier of your own: --preset {CLASSIFIER} with --scale, --mean and --std"
    return ""


def _expected(preset: Preset, size: NetworkInput) -> str:
    at, rows = f"at {size.width}x{size.height}", _cells(size)
    return {
        "yolox": f"[1, {rows}, 5 + classes] {at}",
        "yolov5": f"[1, {rows} or {_ANCHORS * rows}, 5 + classes] {at}",
        "yolov8": f"[1, 4 + classes, {rows}] {at}",
        "fastestdet": f"[1, 5 + classes, rows, columns], such as {size.height // 16} and {size.width // 16}",
        "end2end": "[1, boxes, 6]",
        "nanodet": "six outputs, [1, cells, classes] and [1, cells, 4 * bins] of three strides",
    }.get(preset.decoder, "[1, classes]")


def _cells(size: NetworkInput, strides: tuple[int, ...] = _STRIDES) -> int:
    return sum((size.height // stride) * (size.width // stride) for stride in strides)


def _anchored(size: NetworkInput) -> set[int]:
    return {_ANCHORS * _cells(size, strides) for strides in (_STRIDES, _LARGE_STRIDES)}


def _divides(rows: int, columns: int, size: NetworkInput) -> bool:
    return rows > 1 and columns > 1 and not (size.height % rows or size.width % columns)
