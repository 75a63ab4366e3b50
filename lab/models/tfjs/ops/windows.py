"""Windows that slide over a picture: their strides, and the padding that TensorFlow names."""

from dataclasses import dataclass
from typing import Any

from spillover.common.errors import ModelError
from spillover.lab.models.tfjs.files import Node

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Windows:
    """Rows first, then columns."""

    kernel: Pair
    strides: Pair
    dilations: Pair
    same: bool

    @classmethod
    def of(cls, node: Node, kernel: tuple[int, ...]) -> "Windows":
        """By the attributes of a convolution or pooling. Raises ModelError."""
        check_channels_last(node)
        padding = node.text("padding")
        if padding not in {"SAME", "VALID"}:
            raise ModelError(f"node {node.name} ({node.op}): padding {padding!r} is not known here")
        strides, dilations = node.integers("strides"), node.integers("dilations") or [1] * 4
        if len(strides) != 4 or len(dilations) != 4:
            raise ModelError(f"node {node.name} ({node.op}): strides {strides}, dilations {dilations}")
        rows, columns = kernel
        return cls((rows, columns), (strides[1], strides[2]), (dilations[1], dilations[2]), padding == "SAME")

    def attributes(self, height: int, width: int) -> dict[str, Any]:
        """The attributes of ONNX's node for pictures of this size."""
        found: dict[str, Any] = {"kernel_shape": list(self.kernel), "strides": list(self.strides)}
        if self.same:
            (top, bottom), (left, right) = (
                same_padding(length, reach, stride)[:2]
                for length, reach, stride in zip((height, width), self._reach, self.strides, strict=True)
            )
            found["pads"] = [top, left, bottom, right]
        return found

    def places(self, height: int, width: int) -> Pair:
        """Rows and columns of the result."""
        rows, columns = (
            -(-length // stride) if self.same else -(-(length - reach + 1) // stride)
            for length, reach, stride in zip((height, width), self._reach, self.strides, strict=True)
        )
        return rows, columns

    @property
    def _reach(self) -> Pair:
        """How far a window reaches with its dilation, in pixels."""
        rows, columns = (
            (size - 1) * dilation + 1 for size, dilation in zip(self.kernel, self.dilations, strict=True)
        )
        return rows, columns


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """TensorFlow's SAME: pixels before, after, and the output size; an odd pixel goes after."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, out


def check_channels_last(node: Node) -> None:
    """Raises ModelError for a node that wants its channels elsewhere."""
    if (order := node.text("data_format", "NHWC")) != "NHWC":
        raise ModelError(f"node {node.name} ({node.op}): data_format {order} is not known here, only NHWC")
