"""Tensors as the Open Inference Protocol carries them: datatypes, and raw bytes to arrays and back."""

import struct
from collections.abc import Mapping
from math import prod
from types import MappingProxyType

import msgspec
import numpy as np

from spillover.common.errors import InvalidInputError
from spillover.common.types import Tensor

MAX_NAME = 256
"""Maximum number of characters of a name or id on the wire: of frame, device, camera, model, tensor."""
_MAX_AXES = 32
"""The number of axes that every version of numpy supports."""
_MAX_ELEMENTS = 2**56

DTYPES: Mapping[str, np.dtype[np.generic]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "UINT8": np.dtype(np.uint8),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype(np.int8),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
        "BYTES": np.dtype(np.object_),
    }
)
DATATYPES: Mapping[np.dtype[np.generic], str] = MappingProxyType(
    {dtype: name for name, dtype in DTYPES.items()}
)


class TensorRequest(msgspec.Struct, frozen=True, eq=False):
    """One request to a network: named arrays in, named arrays out.

    Empty `outputs` means all. `priority` 1 comes first; 0 means "not given" and comes last. `timeout_s` None
    sets no limit beside the call's own.
    """

    model_name: str
    inputs: Mapping[str, Tensor]
    model_version: str = ""
    request_id: str = ""
    outputs: tuple[str, ...] = ()
    priority: int = 0
    timeout_s: float | None = None


class TensorReply(msgspec.Struct, frozen=True, eq=False):
    """The answer to a `TensorRequest`: named arrays."""

    model_name: str
    model_version: str
    outputs: Mapping[str, Tensor]
    request_id: str = ""


def dtype_of(datatype: str) -> np.dtype[np.generic]:
    """The numpy dtype of a protocol datatype. Raises InvalidInputError for an unknown name."""
    try:
        return DTYPES[datatype]
    except KeyError:
        raise InvalidInputError(f"datatype {datatype!r} is unknown; known are {', '.join(DTYPES)}") from None


def tensor_from_raw(name: str, datatype: str, shape: tuple[int, ...], raw: bytes | memoryview) -> Tensor:
    """An array over `raw` without copying it; only BYTES is unpacked.

    Raises:
        InvalidInputError: unknown datatype, or the length of `raw` does not match the shape.
    """
    dtype = dtype_of(datatype)
    count = element_count(name, shape)
    if dtype.hasobject:
        return _strings(name, unpack_bytes(name, raw, count), shape, count)
    if len(raw) != count * dtype.itemsize:
        raise InvalidInputError(
            f"input {name!r}: {datatype} {list(shape)} is {count * dtype.itemsize} bytes, got {len(raw)}"
        )
    return np.frombuffer(raw, dtype).reshape(shape)


def tensor_from_bytes_elements(name: str, shape: tuple[int, ...], elements: list[bytes]) -> Tensor:
    """A BYTES array from its elements. Raises InvalidInputError for a wrong count or invalid UTF-8."""
    return _strings(name, elements, shape, element_count(name, shape))


def tensor_to_raw(tensor: Tensor) -> bytes:
    """An array as the protocol's raw bytes."""
    if tensor.dtype.hasobject:
        encoded = [str(element).encode() for element in tensor.flat]
        return b"".join(struct.pack("<I", len(element)) + element for element in encoded)
    return tensor.tobytes()


def element_count(name: str, shape: tuple[int, ...]) -> int:
    """Number of elements. Raises InvalidInputError for an impossible shape."""
    if len(shape) > _MAX_AXES:
        raise InvalidInputError(f"input {name!r} has {len(shape)} axes; the limit is {_MAX_AXES}")
    if any(length < 0 for length in shape):
        raise InvalidInputError(f"input {name!r}: shape {list(shape)} has a negative length")
    count = prod(shape)
    if not count and prod(filter(None, shape)) > _MAX_ELEMENTS:  # numpy counts its bytes all the same
        raise InvalidInputError(f"input {name!r}: shape {list(shape)} is too large, even if it is empty")
    return count


def unpack_bytes(name: str, raw: bytes | memoryview, count: int) -> list[bytes]:
    """Split raw BYTES into `count` elements: each is a little-endian uint32 length and that many bytes.

    Raises:
        InvalidInputError: a length points past the end, or there are more elements.
    """
    elements: list[bytes] = []
    position, end = 0, len(raw)
    while position < end:
        if len(elements) == count:
            raise InvalidInputError(f"input {name!r}: more than the {count} elements that its shape promises")
        start = position + 4
        position = start + int.from_bytes(raw[position:start], "little")
        if start > end or position > end:
            raise InvalidInputError(f"input {name!r}: element {len(elements)} of BYTES leads past the end")
        elements.append(bytes(raw[start:position]))
    return elements


def _strings(name: str, elements: list[bytes], shape: tuple[int, ...], count: int) -> Tensor:
    if len(elements) != count:
        raise InvalidInputError(
            f"input {name!r}: shape {list(shape)} is {count} elements, got {len(elements)}"
        )
    array = np.empty(count, np.object_)
    try:
        array[:] = [element.decode() for element in elements]
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"input {name!r}: ONNX strings are UTF-8: {error}") from error
    return array.reshape(shape)
