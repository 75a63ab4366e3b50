"""The child process in which a version is opened for the first time, under limits; `trials` starts it.

It opens the version as the server will, warm-up included, on the CPU alone: what never ends, takes all memory
or crashes the runtime does so here.
"""

import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import msgspec

from spillover.cloud.machine import machine_bytes
from spillover.cloud.models.loader import LoadSpec, open_entry
from spillover.cloud.models.repository import Entry
from spillover.common.errors import ModelError
from spillover.common.model.runtimes.onnxruntime import CPU, CUDA, available_providers
from spillover.common.processes import be_dispensable
from spillover.common.types import ModelId

PASSED, REFUSED, NOT_ON_CPU = 0, 4, 6
"""Exit codes. `NOT_ON_CPU`: an operator of the network exists for another provider of this machine alone."""

_BASE_BYTES, _TIMES_FILES = 4 << 30, 8
_GRACE_S = 2
"""The parent ends a child that takes too long. If the parent is gone, the child ends itself so much later."""


class Order(msgspec.Struct, frozen=True):
    """What the child is to open, and within how long."""

    name: str
    version: str
    path: str
    load_spec: LoadSpec
    timeout_s: float


def main(text: str) -> None:
    """Open what the `Order` in `text` (JSON) says and end this process; a refusal's reason is printed."""
    order = msgspec.json.decode(text, type=Order)
    entry = Entry(ModelId(order.name, order.version), Path(order.path))
    allowed_bytes = _limit(entry, order.timeout_s)
    session = replace_providers(order.load_spec)
    code = PASSED
    try:
        open_entry(entry, session)
    except MemoryError:
        code = _refuse(f"needs more than {allowed_bytes >> 20} MiB of memory")
    except ModelError as error:
        code = _refuse(str(error), error, elsewhere=_has_more_than_cpu(order.load_spec.session.providers))
    os._exit(code)  # the runtime's threads are not waited for


def memory_allowance(entry: Entry) -> int:
    """Bytes of address space that loading may take beside the libraries': by the size of its files.

    Weights are held up to four times for a moment, and results of the layers have a fixed share. Never more
    than the machine, or a control group, has.
    """
    size = sum(path.stat().st_size for path in entry.files() if path.is_file())
    return min(_BASE_BYTES + _TIMES_FILES * size, machine_bytes())


def _limit(entry: Entry, timeout_s: float) -> int:
    """Bound memory, processor time, wall time and files written; gives the bytes of memory."""
    try:
        allowed_bytes = memory_allowance(entry)
    except OSError:  # it is changing: what is wrong shows when it is opened
        allowed_bytes = _BASE_BYTES
    now_bytes = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    cpu_s = int(timeout_s * (os.cpu_count() or 1)) + _GRACE_S
    limits = (
        (resource.RLIMIT_AS, now_bytes + allowed_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    )
    for limit, value in limits:
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # noqa: PLW2901
        resource.setrlimit(limit, (value, value))
    signal.alarm(int(timeout_s) + 1 + _GRACE_S)  # whose default action ends the process
    be_dispensable(1000)  # where memory is short, this process goes first, not the server
    return allowed_bytes


def replace_providers(load_spec: LoadSpec) -> LoadSpec:
    """The same on the CPU alone."""
    return replace(load_spec, session=msgspec.structs.replace(load_spec.session, providers=(CPU,)))


def _has_more_than_cpu(wanted: tuple[str, ...]) -> bool:
    return CUDA in available_providers() if wanted == ("auto",) else wanted != (CPU,)


def _refuse(reason: str, error: BaseException | None = None, *, elsewhere: bool = False) -> int:
    os.write(1, f"\n{' '.join(reason.split())}\n".encode())
    while error is not None:
        if elsewhere and type(error).__name__ == "NotImplemented":  # ONNX Runtime's, of its C extension
            return NOT_ON_CPU
        error = error.__cause__
    return REFUSED
