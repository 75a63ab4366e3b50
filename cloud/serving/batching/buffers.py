"""The memory in which a batch is put together: allocated once for each shape, not once for each batch."""

from collections.abc import Sequence

import numpy as np

from spillover.cloud.serving.batching.work import Work
from spillover.common.wire.tensors import Tensor

_MAX_SHAPES = 8


class BatchBuffers:
    """Batch buffers of one instance, by signature. A lone request is passed on as it is, without a copy."""

    def __init__(self, max_rows: int, fixed_rows: int | None) -> None:
        self._max_rows = max_rows
        self._fixed_rows = fixed_rows
        self._buffers: dict[tuple[object, ...], list[Tensor]] = {}

    def join(self, batch: Sequence[Work]) -> Sequence[Tensor]:
        """One tensor for each input with the rows of all of `batch`, padded with zeros to the fixed rows.

        The tensors are valid until the next call.
        """
        first = batch[0]
        if len(batch) == 1 and self._fixed_rows in (None, first.rows):
            return first.inputs
        rows = sum(work.rows for work in batch)
        buffers = self._buffers_for(first)
        for index, buffer in enumerate(buffers):
            start = 0
            for work in batch:
                buffer[start : start + work.rows] = work.inputs[index]
                start += work.rows
        return [buffer[: self._fixed_rows or rows] for buffer in buffers]

    def _buffers_for(self, work: Work) -> list[Tensor]:
        key = (work.signature, tuple(tensor.dtype for tensor in work.inputs))
        if key not in self._buffers:
            if len(self._buffers) >= _MAX_SHAPES:  # free-size inputs: keep memory bounded
                self._buffers.clear()
            self._buffers[key] = [
                np.zeros((self._max_rows, *tensor.shape[1:]), tensor.dtype) for tensor in work.inputs
            ]
        return self._buffers[key]
