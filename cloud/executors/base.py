"""The Protocol of an executor: runs the batches of one network, here or elsewhere.

The batcher, the registry and the protocol's descriptions know executors by this alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spillover.cloud.executors.latency import LatencyModel
from spillover.common.model.runtimes.base import Device, TensorSpec
from spillover.common.types import Tensor


@dataclass(frozen=True, slots=True)
class NetworkSpecs:
    """What a network takes and gives, and what its first axis is.

    `batchable`: the first axis of every input and output is the batch and has no fixed length, so requests
    can be joined. `fixed_rows`: the first axis has this one length everywhere; else None.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batchable: bool
    fixed_rows: int | None

    @classmethod
    def of(cls, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> "NetworkSpecs":
        """By the shapes alone."""
        first = {spec.shape[0] if spec.shape else None for spec in (*inputs, *outputs)}
        only = first.pop() if len(first) == 1 and inputs else None
        fixed_rows = only if only is not None and only > 0 else None
        return cls(inputs, outputs, batchable=only == -1, fixed_rows=fixed_rows)

    def rows_within(self, limit_bytes: int) -> int:
        """Rows of a run whose inputs and outputs together have at most `limit_bytes`.

        0 where that cannot be known beforehand: for text, and where another axis than the batch is free.
        """
        size = 0
        for spec in (*self.inputs, *self.outputs):
            shape = spec.shape[1:] if self.batchable else spec.shape
            if spec.dtype.hasobject or any(length < 0 for length in shape):
                return 0
            size += math.prod(shape) * spec.dtype.itemsize
        if self.batchable:
            return limit_bytes // max(size, 1)
        return (self.fixed_rows or 1) if size <= limit_bytes else 0

    def named(self, outputs: Sequence[Tensor], wanted: Sequence[str] = ()) -> dict[str, Tensor]:
        """Outputs of a run by name: all of them, or `wanted` alone, in that order."""
        named = {spec.name: output for spec, output in zip(self.outputs, outputs, strict=True)}
        return {name: named[name] for name in wanted} if wanted else named


class Executor(Protocol):
    """Runs one network. Several threads may run it at the same time."""

    @property
    def specs(self) -> NetworkSpecs:
        """What it takes and gives."""
        ...

    @property
    def device(self) -> Device:
        """What it computes on."""
        ...

    @property
    def platform(self) -> str:
        """Library and file format, as the Open Inference Protocol names them: `onnxruntime_onnx`."""
        ...

    @property
    def latency(self) -> LatencyModel:
        """What its runs cost in time; `run` keeps it up to date."""
        ...

    def run_rows(self, rows: int) -> int:
        """The rows that a run of `rows` is filled up to with zeros, at least `rows`."""
        ...

    def run(self, batch: Sequence[Tensor]) -> list[Tensor]:
        """Run one tensor for each input; the outputs come in the order of `specs`.

        Raises:
            InputRefusedError: the network cannot compute with these values or shapes.
            ModelError: it failed otherwise.
        """
        ...

    def stop(self, deadline_s: float) -> bool:
        """Free the network, after its last run; False when that takes longer than `time.monotonic()` says."""
        ...
