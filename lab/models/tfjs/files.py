"""Reads a TensorFlow.js graph model: `model.json` with the graph, and its weights in files beside it.

The format: github.com/tensorflow/tfjs, `tfjs-core/src/io/types.ts` (`ModelJSON`, `WeightsManifestEntry`).
"""

import base64
import binascii
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from spillover.common.errors import ModelError
from spillover.common.files import read_regular

MAX_GRAPH_BYTES = 64 * 1024 * 1024
MAX_WEIGHTS_BYTES = 1024 * 1024 * 1024

Array = npt.NDArray[Any]
_Length = Annotated[int, msgspec.Meta(ge=0)]
_DTYPES: Mapping[str, npt.DTypeLike] = {
    "float32": np.float32,
    "int32": np.int32,
    "bool": np.bool_,
    "float16": np.float16,
    "uint8": np.uint8,
    "uint16": np.uint16,
}


class _Quantization(msgspec.Struct):
    """Without `scale` (float16) the stored numbers are the weights, else they are `stored * scale + min`."""

    dtype: str
    scale: float | None = None
    min: float = 0.0


class _Weight(msgspec.Struct):
    name: str
    shape: tuple[_Length, ...]
    dtype: str
    quantization: _Quantization | None = None

    @property
    def stored(self) -> np.dtype[Any]:
        """The type of the numbers in the file."""
        return _dtype(self.name, self.quantization.dtype if self.quantization else self.dtype)

    def array(self, data: bytes, offset: int) -> Array:
        count = math.prod(self.shape)
        array: Array = np.frombuffer(data, self.stored, count, offset).reshape(self.shape)
        if self.quantization is not None and self.quantization.scale is not None:
            array = array.astype(np.float32) * self.quantization.scale + self.quantization.min
        return array.astype(_dtype(self.name, self.dtype))


class _Group(msgspec.Struct):
    paths: tuple[str, ...]
    weights: tuple[_Weight, ...]


class _Node(msgspec.Struct):
    name: str
    op: str
    input: tuple[str, ...] = ()
    attr: dict[str, Any] = {}


class _Topology(msgspec.Struct):
    node: tuple[_Node, ...]


class _ModelJson(msgspec.Struct, rename="camel"):
    model_topology: _Topology
    weights_manifest: tuple[_Group, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the graph. `inputs` are names, as `node` or `node:1`, without those that only order."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def flag(self, key: str) -> bool:
        """A boolean attribute; false where it is absent."""
        return bool(self._value(key, "b", False))

    def number(self, key: str) -> float:
        """A number attribute. Raises ModelError where it is absent."""
        found = self._value(key, "f", None)
        if not isinstance(found, int | float):
            raise ModelError(f"node {self.name} ({self.op}) has no number {key!r}")
        return float(found)

    def integers(self, key: str) -> list[int]:
        """A list of integers; empty where it is absent."""
        listed = self._value(key, "list", {}).get("i", [])
        return [int(value) for value in listed]

    def text(self, key: str, default: str = "") -> str:
        """A text attribute, which is stored as base64, or as a list of bytes."""
        stored = self._value(key, "s", None)
        try:
            if isinstance(stored, str):
                return base64.b64decode(stored).decode()
            return default if stored is None else bytes(stored).decode()
        except (binascii.Error, TypeError, ValueError) as error:
            raise ModelError(f"node {self.name} ({self.op}): {key!r} is no text: {error}") from error

    def _value(self, key: str, kind: str, default: Any) -> Any:  # noqa: ANN401 - as JSON has it
        return self.attributes.get(key, {}).get(kind, default)


@dataclass(frozen=True, slots=True)
class TfjsModel:
    """A graph model in memory: nodes and weights by name; a weight is the value of a node of its name."""

    nodes: Mapping[str, Node]
    weights: Mapping[str, Array]


def read_tfjs(path: Path) -> TfjsModel:
    """Read `model.json` at `path` and the weight files that it names, which lie beside it.

    Raises:
        ModelError: a file is absent, damaged, of another format, or outside of the folder.
    """
    try:
        model = msgspec.json.decode(read_regular(path, MAX_GRAPH_BYTES), type=_ModelJson)
        weights = dict(_weights(path, model.weights_manifest))
    except OSError as error:
        raise ModelError(f"{error.filename or path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ModelError(f"{path}: not a TensorFlow.js graph model: {error}") from error
    nodes = {
        node.name: Node(node.name, node.op, tuple(i for i in node.input if not i.startswith("^")), node.attr)
        for node in model.model_topology.node
    }
    return TfjsModel(nodes, weights)


def _weights(path: Path, groups: Sequence[_Group]) -> Iterator[tuple[str, Array]]:
    for group in groups:
        data = b"".join(read_regular(_beside(path, name), MAX_WEIGHTS_BYTES) for name in group.paths)
        offset = 0
        for weight in group.weights:
            size = math.prod(weight.shape) * weight.stored.itemsize
            if offset + size > len(data):
                break
            yield weight.name, weight.array(data, offset)
            offset += size
        else:
            if offset == len(data):
                continue
        needed = sum(math.prod(weight.shape) * weight.stored.itemsize for weight in group.weights)
        raise ValueError(f"{', '.join(group.paths)}: {len(data)} bytes, but the weights are {needed}")


def _beside(path: Path, name: str) -> Path:
    if Path(name).name != name:
        raise ValueError(f"the weight file {name!r} is in another folder")
    return path.with_name(name)


def _dtype(name: str, dtype: str) -> np.dtype[Any]:
    if dtype not in _DTYPES:
        raise ValueError(f"weight {name} is of type {dtype}, which is not known here ({', '.join(_DTYPES)})")
    return np.dtype(_DTYPES[dtype])
