"""Several networks as one runtime: they run one after the other, with their tensors lined up."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from spillover.common.errors import ModelError
from spillover.common.model.runtimes.base import Device, Runtime, TensorSpec
from spillover.common.types import Tensor


class JoinedRuntime:
    """A `Runtime` over others, by name; tensors are called `<name>/<tensor>`.

    All take the same number of rows: where one takes a fixed number, so do all.

    Raises:
        ModelError: two take different fixed numbers of rows.
    """

    def __init__(self, runtimes: Mapping[str, Runtime]) -> None:
        self._runtimes = tuple(runtimes.values())
        first = {(name, spec.shape[0]) for name, one in runtimes.items() for spec in one.inputs if spec.shape}
        fixed = sorted((rows, name) for name, rows in first if rows >= 0)
        if fixed and fixed[0][0] != fixed[-1][0]:
            (few, one), (many, other) = fixed[0], fixed[-1]
            raise ModelError(
                f"{one} takes {few} rows at a time and {other} {many}: export both with a free batch"
            )
        rows = fixed[0][0] if fixed else None
        self.inputs = _joined({name: one.inputs for name, one in runtimes.items()}, rows)
        self.outputs = _joined({name: one.outputs for name, one in runtimes.items()}, rows)

    @property
    def device(self) -> Device:
        """Where the first computes, and with one configuration all of them."""
        return self._runtimes[0].device

    @property
    def platform(self) -> str:
        """Library and file format of the first."""
        return self._runtimes[0].platform

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run whole tensors, in the order of `inputs`; the outputs come in the order of `outputs`."""
        outputs: list[Tensor] = []
        start = 0
        for runtime in self._runtimes:
            end = start + len(runtime.inputs)
            outputs += runtime.run(inputs[start:end])
            start = end
        return outputs

    def close(self) -> None:
        """Free the memory of all."""
        for runtime in self._runtimes:
            runtime.close()


def _joined(specs: Mapping[str, Sequence[TensorSpec]], rows: int | None) -> tuple[TensorSpec, ...]:
    return tuple(
        replace(
            spec,
            name=f"{name}/{spec.name}",
            shape=spec.shape if rows is None or not spec.shape else (rows, *spec.shape[1:]),
        )
        for name, ones in specs.items()
        for spec in ones
    )
