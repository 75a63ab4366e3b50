"""Whether a request's tensors are what a network takes; checked before the queue, so none harms a batch."""

from collections.abc import Iterable, Sequence

from spillover.cloud.executors.base import NetworkSpecs
from spillover.common.errors import InvalidInputError
from spillover.common.model.runtimes.base import TensorSpec
from spillover.common.types import Tensor
from spillover.common.wire.tensors import DATATYPES, TensorRequest


def bind_inputs(specs: NetworkSpecs, request: TensorRequest) -> tuple[list[Tensor], int]:
    """The inputs in the network's order, and their number of rows (1 when there is no batch axis).

    Raises:
        InvalidInputError: an input is missing, unknown or of another kind, or an output is unknown.
    """
    _check_names("input", request.inputs, specs.inputs)
    _check_names("output", request.outputs, specs.outputs)
    inputs = []
    for spec in specs.inputs:
        if spec.name not in request.inputs:
            raise InvalidInputError(f"input {spec.name!r} is missing")
        tensor = request.inputs[spec.name]
        _check_tensor(tensor, spec)
        inputs.append(tensor)
    return inputs, _rows(specs, inputs)


def _check_names(kind: str, given: Iterable[str], specs: Sequence[TensorSpec]) -> None:
    known = [spec.name for spec in specs]
    for name in given:
        if name not in known:
            raise InvalidInputError(f"{kind} {name!r} is unknown; the model has {', '.join(known)}")


def _check_tensor(tensor: Tensor, spec: TensorSpec) -> None:
    if tensor.dtype != spec.dtype:
        raise InvalidInputError(
            f"input {spec.name!r} is {DATATYPES[tensor.dtype]}, the model takes {DATATYPES[spec.dtype]}"
        )
    fits = tensor.ndim == len(spec.shape) and all(
        want in (-1, have) for have, want in zip(tensor.shape, spec.shape, strict=True)
    )
    if not fits:
        raise InvalidInputError(
            f"input {spec.name!r} has shape {list(tensor.shape)}, the model takes {list(spec.shape)}"
        )


def _rows(specs: NetworkSpecs, inputs: Sequence[Tensor]) -> int:
    if not specs.batchable:
        return specs.fixed_rows or 1
    rows = {len(tensor) for tensor in inputs}
    if len(rows) != 1 or 0 in rows:
        raise InvalidInputError(f"inputs have {sorted(rows)} rows; all need the same number, at least 1")
    return rows.pop()
