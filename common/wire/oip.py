"""Converts between Open Inference Protocol messages and tensor values, for the server and for a client."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spillover.common.errors import InvalidInputError, TooLargeError, UnsupportedError
from spillover.common.types import Tensor
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.tensors import (
    DATATYPES,
    MAX_NAME,
    TensorReply,
    TensorRequest,
    dtype_of,
    element_count,
    tensor_from_bytes_elements,
    tensor_from_raw,
    tensor_to_raw,
)

# Datatype -> the list of InferTensorContents that holds it, and the dtype of that list.
_LISTS: Mapping[str, tuple[str, npt.DTypeLike]] = {
    "BOOL": ("bool_contents", np.bool_),
    **dict.fromkeys(("INT8", "INT16", "INT32"), ("int_contents", np.int32)),
    "INT64": ("int64_contents", np.int64),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), ("uint_contents", np.uint32)),
    "UINT64": ("uint64_contents", np.uint64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
    "BYTES": ("bytes_contents", np.object_),
}


MAX_TENSORS = 256
"""The most inputs, outputs or parameters of one request."""

_PIECE = 16_384
"""Elements that are converted in one call of NumPy, which holds the interpreter lock: under 1 ms."""


@dataclass(frozen=True, slots=True)
class ElementLimits:
    """Maximum number of elements of all inputs of a request, and of those that are unpacked one by one."""

    total: int = sys.maxsize
    unpacked: int = sys.maxsize


def request_from_pb(message: pb.ModelInferRequest, limits: ElementLimits = ElementLimits()) -> TensorRequest:
    """Decode a request; raw tensors are not copied again.

    Raises:
        TooLargeError: the shapes claim more elements than `limits`, or there are too many tensors or
            parameters; checked before any is read.
        UnsupportedError: shared memory, or classification of an output.
        InvalidInputError: a tensor's bytes, shape and datatype do not match.
    """
    inputs, outputs, parameters = message.inputs, message.outputs, message.parameters
    raw = message.raw_input_contents
    for what in (inputs, outputs, raw, parameters):
        if len(what) > MAX_TENSORS:
            raise TooLargeError(f"{len(what)} inputs, outputs or parameters; the limit is {MAX_TENSORS}")
    described = [_Described(one) for one in inputs]
    wanted = tuple(one.name for one in outputs)
    for name in (message.model_name, message.model_version, message.id, *wanted):
        check_name(name)
    _check_inputs(described, limits, are_raw=bool(raw))
    tensors = _tensors(described, raw, "raw_input_contents")
    for output in outputs:
        _refuse_extensions(output.name, output.parameters)
    return TensorRequest(
        model_name=message.model_name,
        model_version=message.model_version,
        request_id=message.id,
        inputs=tensors,
        outputs=wanted,
        priority=(_integer(parameters, "priority") or 0) if parameters else 0,
        timeout_s=_microseconds(parameters, "timeout") if parameters else None,
    )


def request_to_pb(request: TensorRequest) -> pb.ModelInferRequest:
    """Encode a request; tensors are sent raw."""
    message = pb.ModelInferRequest(
        model_name=request.model_name, model_version=request.model_version, id=request.request_id
    )
    for name, tensor in request.inputs.items():
        message.inputs.add(name=name, datatype=datatype_of(tensor), shape=tensor.shape)
        message.raw_input_contents.append(tensor_to_raw(tensor))
    for name in request.outputs:
        message.outputs.add(name=name)
    if request.priority:
        message.parameters["priority"].uint64_param = request.priority
    if request.timeout_s is not None:
        message.parameters["timeout"].int64_param = max(1, round(request.timeout_s * 1e6))
    return message


def reply_to_pb(reply: TensorReply) -> pb.ModelInferResponse:
    """Encode a reply; tensors are sent raw."""
    message = pb.ModelInferResponse(
        model_name=reply.model_name, model_version=reply.model_version, id=reply.request_id
    )
    for name, tensor in reply.outputs.items():
        message.outputs.add(name=name, datatype=datatype_of(tensor), shape=tensor.shape)
        message.raw_output_contents.append(tensor_to_raw(tensor))
    return message


def reply_from_pb(message: pb.ModelInferResponse) -> TensorReply:
    """Decode a reply. Raises InvalidInputError if its tensors do not match their descriptions."""
    described = [_Described(one) for one in message.outputs]
    outputs = _tensors(described, message.raw_output_contents, "raw_output_contents")
    return TensorReply(message.model_name, message.model_version, outputs, message.id)


def datatype_of(tensor: Tensor) -> str:
    """The protocol's name for an array's dtype. Raises InvalidInputError if it has none."""
    try:
        return DATATYPES[tensor.dtype]
    except KeyError:
        raise InvalidInputError(f"dtype {tensor.dtype} has no name in the protocol") from None


class _Described:
    """What a message says of a tensor. Each look into a message makes an object, so once is enough."""

    __slots__ = ("datatype", "message", "name", "shape")

    def __init__(self, message: Any) -> None:  # noqa: ANN401 - of a request or a reply
        self.message = message
        self.name: str = message.name
        self.datatype: str = message.datatype
        self.shape: tuple[int, ...] = tuple(message.shape)


def _tensors(described: Sequence[_Described], raw: Sequence[bytes], raw_field: str) -> dict[str, Tensor]:
    if raw and len(raw) != len(described):
        raise InvalidInputError(f"{raw_field} has {len(raw)} elements for {len(described)} tensors")
    tensors: dict[str, Tensor] = {}
    for index, one in enumerate(described):
        if one.name in tensors:
            raise InvalidInputError(f"tensor {one.name!r} comes twice")
        if parameters := one.message.parameters:
            _refuse_extensions(one.name, parameters)
        if not raw:
            tensors[one.name] = _from_contents(one.name, one.datatype, one.shape, one.message.contents)
            continue
        if one.message.contents.ListFields():  # MLServer leaves an empty tensor beside raw bytes
            raise InvalidInputError(f"tensor {one.name!r} comes twice, raw and in typed contents")
        tensors[one.name] = tensor_from_raw(one.name, one.datatype, one.shape, raw[index])
    return tensors


def check_name(name: str) -> None:
    """Raise InvalidInputError for a name or id that is too long."""
    if len(name) > MAX_NAME:
        raise InvalidInputError(f"a name has {len(name)} characters; the limit is {MAX_NAME}")


def _check_inputs(described: Iterable[_Described], limits: ElementLimits, *, are_raw: bool) -> None:
    total = unpacked = 0
    for one in described:
        check_name(one.name)
        count = element_count(one.name, one.shape)
        total += count
        if not are_raw or one.datatype == "BYTES":
            unpacked += count
    if total > limits.total:
        raise TooLargeError(f"the inputs have {total} elements; the limit is {limits.total}")
    if unpacked > limits.unpacked:
        raise TooLargeError(
            f"{unpacked} elements are BYTES or typed contents; the limit is {limits.unpacked} (raw: more)"
        )


def _from_contents(
    name: str, datatype: str, shape: tuple[int, ...], contents: pb.InferTensorContents
) -> Tensor:
    dtype = dtype_of(datatype)
    if datatype not in _LISTS:
        raise InvalidInputError(f"input {name!r}: {datatype} has no typed contents, send it raw")
    field, list_dtype = _LISTS[datatype]
    values = getattr(contents, field)
    if len(values) != (count := element_count(name, shape)):
        raise InvalidInputError(f"input {name!r}: shape {list(shape)} is {count} elements, got {len(values)}")
    if dtype.hasobject:
        return tensor_from_bytes_elements(name, shape, list(values))
    array = _array(values, list_dtype)
    cast = array.astype(dtype).reshape(shape)
    if (cast.ravel() != array).any() and dtype.kind in "iu":
        raise InvalidInputError(f"input {name!r}: a value does not fit {datatype}")
    return cast


def _array(values: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:  # noqa: ANN401 - a repeated field
    """A repeated field as an array, piece by piece, so that other threads can run in between."""
    array = np.empty(len(values), dtype)
    for start in range(0, len(values), _PIECE):
        array[start : start + _PIECE] = values[start : start + _PIECE]
    return array


def _refuse_extensions(name: str, parameters: Mapping[str, pb.InferParameter]) -> None:
    for key in parameters:
        if key.startswith("shared_memory") or key == "classification":
            raise UnsupportedError(
                f"tensor {name!r}: parameter {key!r} belongs to an extension not served here"
            )


def _integer(parameters: Mapping[str, pb.InferParameter], key: str) -> int | None:
    if key not in parameters:
        return None
    parameter = parameters[key]
    match parameter.WhichOneof("parameter_choice"):
        case "int64_param":
            value = parameter.int64_param
        case "uint64_param":
            value = parameter.uint64_param
        case other:
            raise InvalidInputError(f"parameter {key!r} is {other}, it must be an integer")
    if value < 0:
        raise InvalidInputError(f"parameter {key!r} is {value}, it must not be negative")
    return value


def _microseconds(parameters: Mapping[str, pb.InferParameter], key: str) -> float | None:
    value = _integer(parameters, key)
    return value / 1e6 if value else None
