"""A pickle reader that can build containers, OrderedDict and tensor references, and nothing else.

A pickle is a program. It may call three functions of this package; every other name is refused with an error.
Memory is bounded as well: the opcodes are walked before they run, because a few bytes can ask the
interpreter's memo table or string buffer for gigabytes.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from typing import Any, BinaryIO

from spillover.common.errors import ModelError
from spillover.lab.models.prepare.checkpoint.tensors import (
    STORAGE_DTYPES,
    StorageRef,
    StorageTag,
    rebuild_parameter,
    rebuild_tensor_v2,
    storage_ref,
)

MAX_PICKLE_BYTES = 64 * 1024**2
"""A state dict of ten thousand tensors is about 2 MiB."""

_ALLOWED: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": rebuild_parameter,
} | {f"torch.{name}": StorageTag(dtype) for name, dtype in STORAGE_DTYPES.items()}

_MEMO_OPCODES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - the base class says so
        wanted = f"{module}.{name}"
        try:
            return _ALLOWED[wanted]
        except KeyError:
            raise ModelError(
                f"the pickle asks for {wanted!r}, which is refused: only tensors are read"
            ) from None

    def persistent_load(self, pid: object) -> StorageRef:
        return storage_ref(pid)


def load_pickle(stream: BinaryIO) -> object:
    """Read one pickle from `stream` and leave the stream behind its last byte.

    Raises:
        ModelError: it is damaged, truncated, over `MAX_PICKLE_BYTES`, or asks for a forbidden global.
    """
    try:
        program = _measured(stream)
        return _Unpickler(io.BytesIO(program)).load()
    except ModelError:
        raise
    except Exception as error:  # pickle has no closed list of what damaged input raises
        raise ModelError(f"damaged or truncated pickle: {error!r:.200}") from error


def _measured(stream: BinaryIO) -> bytes:
    """The bytes up to the STOP opcode; refuses opcodes that need more memory than the pickle is long."""
    start, highest_memo = stream.tell(), 0
    for opcode, argument, position in pickletools.genops(stream):
        if opcode.name in _MEMO_OPCODES and isinstance(argument, int):
            highest_memo = max(highest_memo, argument)
        if position is not None and position - start > MAX_PICKLE_BYTES:
            raise ModelError(f"a pickle of more than {MAX_PICKLE_BYTES} bytes")
    size = stream.tell() - start
    if highest_memo > size:
        raise ModelError(f"a pickle of {size} bytes with a memo of {highest_memo} entries")
    stream.seek(start)
    return stream.read(size)
