"""Opens versions for the server, each one first in a child process with limits.

A network is a program: its file may hold a loop of 2 ** 62 rounds, ask for 100 GB, or crash the runtime, and
no thread that runs one can be stopped. A process can, and costs nothing afterwards. What has passed is
remembered by its files, so that it is not tried again.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from spillover.cloud.models.loader import LoadSpec, OpenedModel, open_entry
from spillover.cloud.models.repository import Entry
from spillover.cloud.models.trial import NOT_ON_CPU, PASSED, REFUSED, Order
from spillover.common.errors import ModelError, UnavailableError
from spillover.common.log import get_logger
from spillover.common.model.split import has_split_plan

# Isolated (-I), so that neither environment nor working folder add code. Imports are those of this process.
_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from spillover.cloud.models.trial import main
main(sys.argv[2])
"""
_MAX_PASSED = 1024
_TAIL_BYTES = 4096
_REAP_S = 5.0

_Identity = tuple[str, LoadSpec, tuple[tuple[str, int, int, int], ...]]


class Trials:
    """Opens versions that have passed their trial. Several threads may; `stop` ends what is under way."""

    def __init__(self) -> None:
        self._passed: OrderedDict[_Identity, None] = OrderedDict()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._lock = threading.Lock()
        self._log = get_logger("models")

    def open(self, entry: Entry, load_spec: LoadSpec) -> OpenedModel:
        """Open and warm a version as `open_entry` does, after a trial unless these files have passed one.

        Raises:
            ModelError: it is broken, takes longer than `load_timeout_s`, too much memory, or crashes.
            UnavailableError: `stop` was called meanwhile.
        """
        identity = _identity(entry, load_spec)
        if identity not in self._passed:
            self._try(entry, load_spec)
            with self._lock:
                self._passed[identity] = None
                if len(self._passed) > _MAX_PASSED:
                    self._passed.popitem(last=False)
        return open_entry(entry, load_spec)

    def stop(self) -> None:
        """End the trials that are under way, and let none begin."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)

    def _try(self, entry: Entry, load_spec: LoadSpec) -> None:
        limit_s = load_spec.load_timeout_s
        begun_s = time.monotonic()
        with self._child(entry, load_spec) as process:
            said, ended = _output_until(process, begun_s + limit_s)
            code = _code_of(process) if ended else None
        if self._stopped:
            raise UnavailableError("the server is stopping")
        if code in {PASSED, NOT_ON_CPU}:
            took_s = round(time.monotonic() - begun_s, 2)
            self._log.info("passed its trial", model=str(entry.model_id), took_s=took_s)
            return
        last_line = said.strip().rpartition("\n")[2]
        if code == REFUSED:
            raise ModelError(last_line)
        if code is None:
            why = f"not loaded and run once after {limit_s:g} s (models.load_timeout_s)"
        else:
            why = f"the process that tried it ended by {_name_of(code)}: {last_line or 'it said nothing'}"
        path = entry.path if has_split_plan(entry.path) else entry.network_path  # it may have been a tail
        raise ModelError(entry.hide_root(f"{path}: {why}"))

    @contextmanager
    def _child(self, entry: Entry, load_spec: LoadSpec) -> Iterator[subprocess.Popen[bytes]]:
        """A child that tries `entry`; it and whatever it starts is dead afterwards."""
        model_id, path = entry.model_id, str(entry.path.absolute())
        order = Order(model_id.name, model_id.version, path, load_spec, load_spec.load_timeout_s)
        with self._lock:
            if self._stopped:
                raise UnavailableError("the server is stopping")
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-c", _START),
                    msgspec.json.encode([str(Path(folder).absolute()) for folder in sys.path]).decode(),
                    msgspec.json.encode(order).decode(),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Each arena of malloc reserves 64 MiB of addresses, which the child's limit counts.
                env=os.environ | {"MALLOC_ARENA_MAX": "2"},
            )
            self._running.add(process)
        try:
            yield process
        finally:
            with self._lock:
                _kill(process)
                self._running.discard(process)
            _code_of(process)
            assert process.stdout is not None  # noqa: S101 - asked for above
            process.stdout.close()


def _output_until(process: subprocess.Popen[bytes], deadline_s: float) -> tuple[str, bool]:
    """The end of what it writes, and whether it closed its output by `deadline_s` (monotonic)."""
    assert process.stdout is not None  # noqa: S101 - a pipe
    descriptor = process.stdout.fileno()
    poll = select.poll()  # select() takes no descriptor beyond 1023, and a server has more
    poll.register(descriptor, select.POLLIN)
    tail = b""
    while (left_s := deadline_s - time.monotonic()) > 0:
        if not poll.poll(left_s * 1000):
            continue
        if not (chunk := os.read(descriptor, 1 << 16)):
            return tail.decode(errors="replace"), True
        tail = (tail + chunk)[-_TAIL_BYTES:]
    return tail.decode(errors="replace"), False


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _code_of(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that ends; None if the system itself holds it, on a dead disk say."""
    try:
        return process.wait(_REAP_S)
    except subprocess.TimeoutExpired:
        return None


def _name_of(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _identity(entry: Entry, load_spec: LoadSpec) -> _Identity:
    """What a version's trial depends on: its files, and how it is loaded."""
    try:
        stats = [(str(path), path.stat()) for path in sorted(entry.files()) if path.is_file()]
    except OSError as error:
        raise ModelError(f"{entry.model_id}: {error.strerror or error}") from error
    files = tuple((name, one.st_size, one.st_mtime_ns, one.st_ino) for name, one in stats)
    return str(entry.path), load_spec, files
