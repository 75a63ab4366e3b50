"""The Protocol of a runtime: one network on one device, for the edge, the cloud and the workbench."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spillover.common.types import Tensor

MAX_NETWORK_BYTES = 2**31
"""The longest file of a network, by protobuf's own limit. Larger ones keep their weights beside it."""


class Device(enum.Enum):
    """The kind of device that computes."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a network. `shape` has -1 for an axis of free length."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    def zeros(self, shape: tuple[int, ...]) -> Tensor:
        """An array of this dtype: zeros, or empty strings."""
        return np.full(shape, "", np.object_) if self.dtype.hasobject else np.zeros(shape, self.dtype)


class Runtime(Protocol):
    """A network in the memory of a device. Several threads may run it at the same time."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` takes, in this order."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `run` gives, in this order."""
        ...

    @property
    def device(self) -> Device:
        """Where it computes."""
        ...

    @property
    def platform(self) -> str:
        """Library and file format, as the Open Inference Protocol names them: `onnxruntime_onnx`."""
        ...

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run whole tensors.

        Raises:
            InputRefusedError: the network cannot compute with these values or shapes.
            ModelError: the library fails, or the network is closed.
        """
        ...

    def close(self) -> None:
        """Free the network's memory; runs under way end first."""
        ...
