"""An ONNX file as it is found: its input, what it gives on noise, and what its exporter has noted."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.manifest import Colour, Element, Input, Layout
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import Tensor

_CHANNELS = (1, 3)
_NOTED_TASK = "task"
_NOTED_NAMES = "names"
_NOTED_SIZE = "imgsz"


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """The one input: what the file fixes, None or 0 where it leaves something open."""

    layout: Layout | None
    channels: int | None
    element: Element
    height: int
    width: int
    batch: int

    @property
    def colour(self) -> Colour | None:
        """Grey, where there is one channel; the order of three is not in the file."""
        return Colour.GREY if self.channels == 1 else None


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network, its input, and the notes of its exporter."""

    path: Path
    proto: onnx.ModelProto
    input: NetworkInput
    notes: dict[str, str]

    @property
    def task_noted(self) -> str:
        """What Ultralytics notes of the task: detect, segment, classify and so on."""
        return self.notes.get(_NOTED_TASK, "")

    @property
    def names_noted(self) -> list[str]:
        """The names of classes that Ultralytics notes, in the order of the classes."""
        match self._noted(_NOTED_NAMES):
            case dict() as names if set(names) == set(range(len(names))):
                return [" ".join(str(names[number]).split()) for number in range(len(names))]
            case list() as names:
                return [" ".join(str(name).split()) for name in names]
        return []

    @property
    def size_noted(self) -> tuple[int, int] | None:
        """Height and width that Ultralytics notes, also where the axes are dynamic."""
        match self._noted(_NOTED_SIZE):
            case [int(height), int(width)] if height > 0 and width > 0:
                return height, width
        return None

    def _noted(self, key: str) -> object:
        """A note that is a Python literal; None where it is absent or no literal."""
        try:
            return ast.literal_eval(self.notes.get(key, ""))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None

    def sized(self, height: int | None, width: int | None) -> "Network":
        """With a size where the file leaves it open.

        Raises:
            ConfigError: the size is open and none is given, or another one than the network's is.
        """
        found, wanted = self.input, (height or 0, width or 0)
        for have, want in zip((found.height, found.width), wanted, strict=True):
            if want and have and have != want:
                raise ConfigError(
                    f"{self.path}: the network takes {found.width}x{found.height} pixels; leave --size away"
                )
        height, width = found.height or wanted[0], found.width or wanted[1]
        if not (height and width):
            raise ConfigError(f"{self.path}: the network's input size is dynamic: name one with --size")
        return replace(self, input=replace(found, height=height, width=width))

    def outputs(self) -> "Outputs":
        """Run it once on noise. Raises ModelError."""
        found = self.input
        plane, channels = (found.height, found.width), found.channels or 3
        shape = (channels, *plane) if found.layout is not Layout.NHWC else (*plane, channels)
        noise = np.random.default_rng(0).integers(0, 256, (found.batch or 1, *shape), np.uint8)
        pixels = noise if found.element is Element.UINT8 else (noise / np.float32(255)).astype(np.float32)
        config = SessionConfig(threads=1, providers=("CPUExecutionProvider",))
        runtime = open_runtime(self.path, config)
        try:
            return Outputs(tuple(output[0] for output in runtime.run([pixels])), found)
        except (IndexError, ModelError) as error:
            raise ModelError(
                f"{self.path}: cannot be run on a picture of {found.width}x{found.height}: {error}"
            ) from error
        finally:
            runtime.close()


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What a network gives for one picture of noise (no batch axis), and the input that it was given to."""

    arrays: tuple[Tensor, ...]
    input: NetworkInput

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first output, which the decoders read, without trailing axes of one element."""
        return self.arrays[0].shape if self.arrays else ()

    def __str__(self) -> str:
        return " and ".join(f"[{', '.join(map(str, (1, *array.shape)))}]" for array in self.arrays[:4])

    @property
    def sums_to_one(self) -> bool:
        """Whether the first output holds probabilities."""
        values = self.arrays[0].astype(np.float64)
        return bool((values >= 0).all() and abs(values.sum() - 1.0) < 1e-3)


def read_network(path: Path, layout: Layout | None = None) -> Network:
    """Read and check an ONNX file, weights in files beside it included.

    `layout` counts where the input leaves it open.

    Raises:
        ModelError: it is no ONNX network, or has not one input that a picture fits.
    """
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf, ONNX and the file system have no common error
        raise ModelError(f"{path}: not an ONNX network: {error}") from error
    notes = {note.key: note.value for note in proto.metadata_props}
    return Network(path, proto, _input_of(path, proto.graph, layout), notes)


def described(chosen: Input) -> str:
    """What becomes of a picture before the network sees it, in one line."""
    size, order = f"{chosen.width}x{chosen.height}", f"{chosen.layout.value}, {chosen.colour.value}"
    normalised = f"(x - {_numbers(chosen.mean)}) / {_numbers(chosen.std)} of pixels 0..255"
    return f"{size}, {order}, {chosen.element.value}, {chosen.resize.value}, {normalised}"


def _numbers(values: Sequence[float]) -> str:
    distinct = values[:1] if len(set(values)) == 1 else values
    return "/".join(f"{value:g}" for value in distinct)


def _input_of(path: Path, graph: onnx.GraphProto, layout: Layout | None) -> NetworkInput:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    tensors = [value.type.tensor_type for value in inputs]
    shapes = [[axis.dim_value for axis in tensor.shape.dim] for tensor in tensors]
    if len(inputs) != 1 or len(shapes[0]) != 4:
        told = ", ".join(f"{value.name} {shape}" for value, shape in zip(inputs, shapes, strict=True))
        raise ModelError(
            f"{path}: the network must have one input of four axes: batch, channels, height, width "
            f"(or channels last); it has {told or 'none'}"
        )
    kinds = {int(onnx.TensorProto.FLOAT): Element.FLOAT32, int(onnx.TensorProto.UINT8): Element.UINT8}
    if (element := kinds.get(tensors[0].elem_type)) is None:
        name = onnx.TensorProto.DataType.Name(tensors[0].elem_type)
        raise ModelError(
            f"{path}: the network's input is of type {name}; export it with float32 or uint8 pixels "
            "(for half precision: export without half)"
        )
    layout = _layout_of(shapes[0]) or layout
    channels, plane = (
        (shapes[0][3], shapes[0][1:3]) if layout is Layout.NHWC else (shapes[0][1], shapes[0][2:])
    )
    if channels not in (0, *_CHANNELS):
        raise ModelError(f"{path}: the network's input is {shapes[0]}: pictures have 1 or 3 channels")
    return NetworkInput(layout, channels or None, element, plane[0], plane[1], shapes[0][0])


def _layout_of(shape: Sequence[int]) -> Layout | None:
    """Where the channels are: on the axis that has 1 or 3 elements while the other has not."""
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first == last:
        return None
    return Layout.NCHW if first else Layout.NHWC
