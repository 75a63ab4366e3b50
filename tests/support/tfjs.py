"""Tiny TensorFlow.js graph models, written as their converter writes them."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass
class TinyGraph:
    """A graph model in the making; `write` puts it into files."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)

    def placeholder(self, name: str, *shape: int) -> str:
        """An input of this shape."""
        dims = [{"size": str(length)} for length in shape]
        return self.node("Placeholder", name, [], shape={"shape": {"dim": dims}})

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """A weight and the node that stands for it."""
        self.weights[name] = np.asarray(value, dtype)
        return self.node("Const", name, [])

    def whole(self, name: str, *values: int) -> str:
        """A constant of whole numbers: one alone is a scalar."""
        return self.constant(name, values[0] if len(values) == 1 else values, np.int32)

    def node(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node; attributes are as in the file, such as `alpha={"f": 0.1}`."""
        self.nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attributes})
        return name

    def write(
        self, folder: Path, stored: Mapping[str, tuple[npt.DTypeLike, dict[str, Any]]] | None = None
    ) -> Path:
        """`model.json` and two files of weights, cut in the middle of a number; gives the former.

        `stored` has, by name, the type in which a weight is stored and the `quantization` that says so.
        """
        stored = stored or {}
        data, entries = b"", []
        for name, value in self.weights.items():
            entry: dict[str, Any] = {"name": name, "shape": list(value.shape), "dtype": value.dtype.name}
            kept = value
            if name in stored:
                dtype, entry["quantization"] = stored[name]
                scale, low = (entry["quantization"].get(key) for key in ("scale", "min"))
                kept = (value if scale is None else np.rint((value - low) / scale)).astype(dtype)
            data += kept.tobytes()
            entries.append(entry)
        half = len(data) // 2 - 1
        (folder / "one.bin").write_bytes(data[:half])
        (folder / "two.bin").write_bytes(data[half:])
        model = {
            "format": "graph-model",
            "modelTopology": {"node": self.nodes},
            "weightsManifest": [{"paths": ["one.bin", "two.bin"], "weights": entries}],
        }
        (folder / "model.json").write_text(json.dumps(model))
        return folder / "model.json"


def listed(*values: int) -> dict[str, Any]:
    """A list attribute; integers are text there."""
    return {"list": {"i": [str(value) for value in values]}}


def text(value: str) -> dict[str, Any]:
    """A text attribute."""
    return {"s": base64.b64encode(value.encode()).decode()}


def window(padding: str = "VALID", *strides: int, **more: Any) -> dict[str, Any]:
    """The attributes of a convolution or pooling."""
    rows, columns = strides or (1, 1)
    return {"padding": text(padding), "strides": listed(1, rows, columns, 1), **more}
