"""The task interface: what the two sides and the workbench need for one kind of prediction."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from spillover.common.errors import InvalidInputError
from spillover.common.geometry import FrameTransform
from spillover.common.tasks.drawing import Name, Pen, draw_boxes
from spillover.common.types import FloatArray, Image, Prediction

P = TypeVar("P", bound=Prediction)
P_co = TypeVar("P_co", bound=Prediction, covariant=True)

NOTHING: Mapping[str, Sequence[Any]] = MappingProxyType({})
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """What a decoder may read of its model: the parts of `model.yaml` that define the outputs."""

    model: str
    """The model's name, for errors."""
    decoder: str
    input_width: int
    input_height: int
    threshold: float
    """Parts below this confidence, on the network's own scale, are dropped."""
    iou_threshold: float
    """Of two boxes of one class that overlap more, the less confident one is dropped."""
    max_detections: int
    calibrate: Callable[[FloatArray], FloatArray] | None = None
    """Maps the network's confidences (N,) to reported ones, in the same order."""
    anchors: FloatArray | None = None
    """Left, top, right, bottom of the network's anchors (N, 4) as shares of its input."""


class Decoder(Protocol[P_co]):
    """Turns the outputs for one picture (no batch axis) into a prediction in pixels of the frame."""

    def __call__(
        self, outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform, /
    ) -> P_co:
        """Decode; `transform` maps the frame to the input.

        Raises ModelError if the outputs' shapes do not fit.
        """
        ...


@dataclass(frozen=True, slots=True)
class Head(Generic[P]):
    """One output format of a task's networks: its decoder and the position of the classes.

    In an output of `axes` axes (no batch axis; None: any number) `class_axis` is the one with the classes,
    and `other` of its elements are not classes. Without a class axis every element of the output is a class,
    unless the shape does not tell how many there are (`counted` is false).
    """

    decode: Decoder[P]
    class_axis: int | None = None
    other: int = 0
    axes: int | None = None
    counted: bool = True

    def class_count(self, shape: Sequence[object]) -> int | None:
        """Classes in a first output of this shape (no batch axis); None if the shape does not say."""
        if not self.counted or (self.axes is not None and len(shape) != self.axes):
            return None
        counted = shape if self.class_axis is None else [shape[self.class_axis]]
        lengths = [length for length in counted if isinstance(length, int)]
        return math.prod(lengths) - self.other if lengths and len(lengths) == len(counted) else None


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a prediction: `width` numbers for each row, by descending confidence."""

    dtype: type[np.generic]
    width: int = 1
    decimals: int = 0
    """Decimals to which its numbers are rounded in a record."""

    def array(self, values: npt.ArrayLike) -> Array:
        """The values as (N,), or (N, width) for a width above 1.

        Raises ValueError if the length does not fit.
        """
        flat = np.asarray(values, self.dtype)
        return flat.reshape(-1, self.width) if self.width > 1 else flat.reshape(-1)

    def rounded(self, values: Array) -> list[Any]:
        """Rounded for a record; whole arrays in double precision: single values take ten times as long."""
        if values.dtype.kind == "f":
            values = np.round(values.astype(np.float64), self.decimals)
        rounded: list[Any] = values.tolist()
        return rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec(Generic[P]):
    """One task. Its predictions are of type `prediction`, whose fields are the arrays named in `columns`.

    `columns` alone determines the form on the wire, in records and in the workbench's files.
    """

    name: str
    """The value of `task` in model.yaml."""
    prediction: type[P]
    heads: Mapping[str, Head[P]]
    """By the value of `output.decoder` in model.yaml; no two tasks share one."""
    columns: Mapping[str, Column]
    agreement: Callable[[P, P, float], float]
    """How well the first agrees with the second, 0..1; parts below the given confidence do not count."""
    record_key: str
    """The key of a record that holds its rows."""
    most_rows: int | None = None
    """Maximum number of rows in a record, the most confident ones; None is all."""
    least_rows: int = 0
    """A prediction with fewer rows is invalid."""
    wire_field: str = ""
    """The field of `InferReply.prediction` in spillover.proto whose message has the columns as repeated
    fields; empty where there is none: then only tensors can be asked for (`uplink.protocol: oip`)."""
    scorer: str = "doubt"
    """Meaning of `policy.kind: auto`: a name in `edge.policy.scores.SCORERS`."""
    calibrates: bool = False
    """Whether its decoders apply `output.calibration`."""
    draw: Callable[[Image, P, Name, Pen], None] = draw_boxes
    """Draws a prediction into a BGR picture (H, W, 3), in place."""

    @property
    def locates(self) -> bool:
        """Whether its predictions give positions, as boxes."""
        return self.prediction.boxes is not Prediction.boxes

    def own(self, prediction: Prediction) -> P:
        """The prediction as this task's type. Raises TypeError for another task's."""
        if not isinstance(prediction, self.prediction):
            raise TypeError(f"a {type(prediction).__name__} is no prediction of task {self.name}")
        return prediction

    def blank(self) -> P:
        """An empty prediction: as few rows as allowed, all zeros."""
        return self.from_columns({n: np.zeros(self.least_rows * c.width) for n, c in self.columns.items()})

    def columns_of(self, prediction: P) -> dict[str, Array]:
        """The arrays of a prediction by name; the first axis of each has the same length."""
        return {name: getattr(prediction, name) for name in self.columns}

    def from_columns(self, columns: Mapping[str, npt.ArrayLike]) -> P:
        """The prediction of these arrays, which may be flat lists; every value is checked.

        Raises:
            InvalidInputError: lengths do not match, there are too few rows, or a number is not finite.
        """
        try:
            arrays = {name: column.array(columns[name]) for name, column in self.columns.items()}
        except ValueError as error:
            raise InvalidInputError(f"{self.name}: {error}") from error
        counts = {name: len(array) for name, array in arrays.items()}
        if len(set(counts.values())) != 1 or min(counts.values()) < self.least_rows:
            raise InvalidInputError(f"{self.name}: rows are {counts}, which fit no prediction")
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InvalidInputError(f"{self.name}: {name} has a value that is not a number")
        return self.prediction(**arrays)

    def rows(
        self, prediction: P, labels: Sequence[str] = (), beside: Mapping[str, Sequence[Any]] = NOTHING
    ) -> list[msgspec.Struct]:
        """For JSON: one object per row, with a `label` if the task has classes; null for an unknown one.

        `beside` are more values of each row, by name.
        """
        lists: dict[str, Sequence[Any]] = {
            name: column.rounded(getattr(prediction, name)[: self.most_rows])
            for name, column in self.columns.items()
        }
        if "class_id" in lists:
            known = len(labels)
            lists["label"] = [labels[c] if 0 <= c < known else None for c in lists["class_id"]]
        lists |= beside
        return list(map(_row_type(*lists), *lists.values()))

    def from_rows(self, rows: Sequence[Mapping[str, Any]]) -> P:
        """The prediction from recorded `rows`, with as many rows as were recorded.

        Raises InvalidInputError.
        """
        return self.from_columns({name: [row[name] for row in rows] for name in self.columns})


@functools.lru_cache(maxsize=32)
def _row_type(*names: str) -> type[msgspec.Struct]:
    """A structure is created ten times faster than a dict, and every box of every frame needs one."""
    return msgspec.defstruct("Row", names)
