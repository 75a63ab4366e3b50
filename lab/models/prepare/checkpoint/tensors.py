"""The tensors that a checkpoint's pickle may describe: views of storages, checked before they become arrays.

The names and argument orders are PyTorch's (`torch/_utils.py`, `torch/serialization.py`).
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

import ml_dtypes
import numpy as np

from spillover.common.errors import ModelError

Array = np.ndarray[Any, np.dtype[Any]]

STORAGE_DTYPES: dict[str, np.dtype[Any]] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
MAX_DIMENSIONS = 8
MAX_EMPTY_SIZE = 2**7


# Tuples, because pickle's BUILD opcode can change the attributes of anything that has them.
class StorageTag(NamedTuple):
    """Stands for a class like `torch.FloatStorage`."""

    dtype: np.dtype[Any]


class StorageRef(NamedTuple):
    """A flat run of `length` elements, kept elsewhere in the file under `key`."""

    key: str
    dtype: np.dtype[Any]
    length: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole run."""
        return self.length * self.dtype.itemsize


class TensorRef(NamedTuple):
    """A strided view of a storage; `offset` and `strides` count elements."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def storage_ref(persistent_id: object) -> StorageRef:
    """The storage that a persistent id `("storage", type, key, location, length[, view])` names."""
    match persistent_id:
        case ("storage", StorageTag(dtype), str(key), str(), int(length), *view) if length >= 0:
            if view not in ([], [None]):
                raise ModelError("a storage is a view of another, as only PyTorch before 0.4 wrote it")
            return StorageRef(key, dtype, length)
    raise ModelError(f"an unknown kind of persistent id: {persistent_id!r:.200}")


def rebuild_tensor_v2(
    storage: object, offset: object, shape: object, strides: object, *_hooks: object
) -> TensorRef:
    """Stands for `torch._utils._rebuild_tensor_v2`; `_hooks` are gradient settings and mean nothing here."""
    if not isinstance(storage, StorageRef) or not _is_index(offset):
        raise ModelError("a tensor has no storage or a bad offset")
    if not _are_indices(shape) or not _are_indices(strides) or len(shape) != len(strides):
        raise ModelError(f"a tensor has bad sizes or strides: {shape!r:.200}, {strides!r:.200}")
    return TensorRef(storage, offset, shape, strides)


def rebuild_parameter(tensor: object, *_settings: object) -> TensorRef:
    """Stands for `torch._utils._rebuild_parameter`: a parameter is its tensor."""
    if not isinstance(tensor, TensorRef):
        raise ModelError("a parameter holds no tensor")
    return tensor


def make_array(name: str, tensor: TensorRef, storages: Mapping[str, Array]) -> Array:
    """The tensor as a read-only view of its storage; nothing is copied, so aliases cost no memory.

    Raises:
        ModelError: the view leaves its storage, or repeats elements of it (a small file could then stand
            for any number of values).
    """
    storage = storages.get(tensor.storage.key)
    if storage is None:
        raise ModelError(f"tensor {name}: its storage {tensor.storage.key!r} is not in the file")
    if storage.dtype != tensor.storage.dtype:
        raise ModelError(f"tensor {name}: two types are given for its storage {tensor.storage.key!r}")
    if not _fits(tensor, storage.size):
        raise ModelError(
            f"tensor {name}: sizes {tensor.shape} with strides {tensor.strides} from element {tensor.offset} "
            f"do not fit its storage of {storage.size} elements"
        )
    strides_bytes = tuple(step * storage.itemsize for step in tensor.strides)
    return np.lib.stride_tricks.as_strided(
        storage[tensor.offset :], tensor.shape, strides_bytes, writeable=False
    )


def _fits(tensor: TensorRef, length: int) -> bool:
    if 0 in tensor.shape:
        return max(tensor.shape) <= MAX_EMPTY_SIZE
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
    return math.prod(tensor.shape) <= length and tensor.offset + last < length


def _is_index(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 2**48


def _are_indices(values: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(values, tuple) and len(values) <= MAX_DIMENSIONS and all(map(_is_index, values))
