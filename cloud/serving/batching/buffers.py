"""The memory in which a batch is put together: allocated once for each shape, not once for each batch."""

from collections.abc import Callable, Sequence

import numpy as np

from spillover.cloud.serving.batching.queue import Work
from spillover.common.types import Tensor

_MAX_SHAPES = 8


class BatchBuffers:
    """Batch buffers of one instance, by signature. A lone request that fills its run is passed on uncopied.

    `run_rows` gives the rows that a run is filled up to, as `Executor.run_rows`.
    """

    def __init__(self, max_rows: int, run_rows: Callable[[int], int]) -> None:
        self._max_rows = max_rows
        self._run_rows = run_rows
        self._buffers: dict[tuple[object, ...], list[Tensor]] = {}

    def join(self, batch: Sequence[Work]) -> Sequence[Tensor]:
        """One tensor for each input with the rows of all of `batch`, filled up with zeros.

        The tensors are valid until the next call.
        """
        first = batch[0]
        if len(batch) == 1 and self._run_rows(first.rows) == first.rows:
            return first.inputs
        rows = sum(work.rows for work in batch)
        size = self._run_rows(rows)
        buffers = self._buffers_for(first, max(size, self._run_rows(self._max_rows)))
        for index, buffer in enumerate(buffers):
            start = 0
            for work in batch:
                buffer[start : start + work.rows] = work.inputs[index]
                start += work.rows
            buffer[rows:size] = 0
        return [buffer[:size] for buffer in buffers]

    def _buffers_for(self, work: Work, rows: int) -> list[Tensor]:
        key = (work.signature, tuple(tensor.dtype for tensor in work.inputs), rows)
        if key not in self._buffers:
            if len(self._buffers) >= _MAX_SHAPES:  # free-size inputs: keep memory bounded
                self._buffers.clear()
            self._buffers[key] = [np.zeros((rows, *tensor.shape[1:]), tensor.dtype) for tensor in work.inputs]
        return self._buffers[key]
