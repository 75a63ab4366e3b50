"""An executor over a runtime in this process."""

import time
from collections.abc import Sequence
from dataclasses import replace

from spillover.cloud.executors.base import NetworkSpecs
from spillover.cloud.executors.latency import LatencyModel
from spillover.common.errors import ModelError
from spillover.common.model.runtimes.base import Device, Runtime, TensorSpec
from spillover.common.types import ModelId, Tensor

_MAX_PADDED_ROWS = 64


class LocalExecutor:
    """Owns one runtime, and runs it on the thread of the caller.

    On a GPU a batch is filled up to a power of two: cuDNN searches for its quickest convolutions at each new
    shape, and a batcher would show it every number of rows.
    """

    def __init__(self, model_id: ModelId, runtime: Runtime) -> None:
        self.specs = NetworkSpecs.of(runtime.inputs, runtime.outputs)
        self.device = runtime.device
        self.platform = runtime.platform
        self.latency = LatencyModel()
        self._model_id = model_id
        self._runtime = runtime

    def warm_up(self, runs: int, rows: int = 2) -> None:
        """Run on zeros: one row, and where there is a batch axis `rows`, two or more. Learns what runs cost.

        Inputs of free size are not tried. A network whose file promises a free batch axis and that gives back
        another number of rows is from then on run one request at a time.

        Raises:
            ModelError: it cannot be run.
        """
        specs = self.specs
        shapes = [spec.shape[1:] if specs.batchable else spec.shape for spec in specs.inputs]
        if any(length < 0 for shape in shapes for length in shape):
            return
        many = self.run_rows(max(rows, 2))
        counts = range(1, many + 1) if self.device is Device.GPU else (1,)
        for size in sorted({self.run_rows(count) for count in counts}):
            self._run_zeros(size)  # what is slow the first time is slow now
        self.latency = LatencyModel(many)
        for size in (1, many) * runs:  # in turns, so that what disturbs one disturbs the other
            outputs = self._run_zeros(size)
            if specs.batchable and any(len(output) != size for output in outputs):
                self.specs = replace(specs, batchable=False)
                return

    def run_rows(self, rows: int) -> int:
        """The rows that a run of `rows` is filled up to: a fixed number, or on a GPU a power of two."""
        if self.device is Device.GPU and self.specs.batchable:
            return padded_rows(rows)
        return self.specs.fixed_rows or rows

    def run(self, batch: Sequence[Tensor]) -> list[Tensor]:
        """Run one tensor for each input; the outputs come in the order of `specs`.

        Raises:
            InputRefusedError: the network cannot compute with these values or shapes.
            ModelError: it failed otherwise.
        """
        start_s = time.perf_counter()
        try:
            outputs = self._runtime.run(batch)
        except ModelError as error:
            raise type(error)(f"model {self._model_id}: {error}") from error
        rows = len(batch[0]) if self.specs.batchable else 1
        self.latency.learn(rows, time.perf_counter() - start_s)
        return outputs

    def stop(self, deadline_s: float) -> bool:
        """Free the network. Nothing here waits."""
        del deadline_s
        self._runtime.close()
        return True

    def _run_zeros(self, rows: int) -> list[Tensor]:
        return self.run([_zeros(spec, rows if self.specs.batchable else None) for spec in self.specs.inputs])


def padded_rows(rows: int) -> int:
    """The next power of two, as far as that pays; larger requests are taken as they are."""
    return 1 << (rows - 1).bit_length() if 0 < rows <= _MAX_PADDED_ROWS else rows


def _zeros(spec: TensorSpec, rows: int | None) -> Tensor:
    return spec.zeros(spec.shape if rows is None else (rows, *spec.shape[1:]))
