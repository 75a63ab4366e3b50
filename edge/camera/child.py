"""A camera that is a child process, which writes pictures to its standard output."""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from spillover.common.errors import SourceError
from spillover.common.log import printable
from spillover.common.net.addresses import without_password
from spillover.common.processes import bound
from spillover.edge.camera.pictures import Cutter
from spillover.edge.camera.source import Picture

START_LIMIT_S = 10.0
"""From the start of the process to its first picture."""
READ_LIMIT_S = 5.0
"""From one picture to the next."""
_END_LIMIT_S = 2.0
"""What a process may take to end once its pipe is closed, or once it is killed."""
_LOOK_S = 0.01
"""Between two looks whether it has ended."""
_PIPE_BYTES = 1 << 20
"""What the pipe should hold, so that a picture takes few reads; the kernel allows anyone as much."""
_TOLD_BYTES = 2000
"""So much of the end of its standard error is kept."""
_LONGEST_LINE = 300
"""So many characters of its last line are told."""


class ChildSource:
    """Pictures that the process `command` writes; `cutter` finds them in what it writes.

    The process is called `name` in errors. It is killed by `close`, and by the kernel when the thread dies
    that made this source.

    Raises:
        SourceError: the process cannot be started.
    """

    live = True
    fps: float | None = None

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        cutter: Cutter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._cutter = cutter
        self._clock = clock
        self._limit_s = START_LIMIT_S
        self._told, self._silent = b"", False
        try:
            self._process = subprocess.Popen(
                bound(command, signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                process_group=0,  # what it starts is killed with it; and Ctrl-C is for the daemon
            )
        except OSError as error:
            raise SourceError(f"camera.source: {name} cannot be started: {error.strerror}") from error
        assert self._process.stdout is not None  # noqa: S101 - both are pipes
        assert self._process.stderr is not None  # noqa: S101
        self._pictures, self._errors = self._process.stdout.fileno(), self._process.stderr.fileno()
        for pipe in (self._pictures, self._errors):
            os.set_blocking(pipe, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pictures, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def read(self) -> Picture | None:
        """Wait for the next picture.

        Raises:
            UnreadablePictureError: it is damaged; read on.
            SourceError: the process has ended, or is silent for too long; the text has its last line.
        """
        limit_s = self._clock() + self._limit_s
        while True:
            start = time.perf_counter()
            if (image := self._cutter.next()) is not None:
                self._limit_s = READ_LIMIT_S
                return Picture(image, time.perf_counter() - start)
            self._wait(limit_s)

    def rewind(self) -> None:
        """Raise SourceError: a camera cannot start again."""
        raise SourceError("camera.source: a live source cannot begin again")

    def interrupt(self) -> None:
        """End the process and all that it has started, and with it a `read` that waits. Thread-safe."""
        if self._process.returncode is None:  # once it was awaited its number may be another's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the process and all that it has started."""
        self.interrupt()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a driver holds it: nothing more can be done
            self._process.wait(_END_LIMIT_S)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _wait(self, limit_s: float) -> None:
        """Take in what has come; wait for it until `limit_s`."""
        left_s = limit_s - self._clock()
        if left_s <= 0:
            raise SourceError(f"camera.source: {self._name} gives no picture{self._last_line()}")
        waiting = select.poll()
        waiting.register(self._pictures, select.POLLIN)
        if not self._silent:
            waiting.register(self._errors, select.POLLIN)
        ready = {descriptor for descriptor, _ in waiting.poll(left_s * 1000)}
        if self._errors in ready:
            self._listen()
        if self._pictures in ready:
            count = os.readv(self._pictures, [self._cutter.room()])
            if not count:
                raise SourceError(f"camera.source: {self._name} {self._end()}{self._last_line()}")
            self._cutter.wrote(count)

    def _listen(self) -> None:
        """Keep the end of what it writes to standard error, so that this never stops it."""
        with contextlib.suppress(BlockingIOError):
            told = os.read(self._errors, _PIPE_BYTES)
            self._silent = not told
            self._told = (self._told + told)[-_TOLD_BYTES:]

    def _end(self) -> str:
        """How the process ended, which has closed its output. It is left to `close` to await it."""
        limit_s = time.monotonic() + _END_LIMIT_S
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while (ended := os.waitid(os.P_PID, self._process.pid, how)) is None:
            if time.monotonic() > limit_s:
                return "has closed its output"
            time.sleep(_LOOK_S)
        self._listen()
        if ended.si_code == os.CLD_EXITED:
            return f"ended with exit code {ended.si_status}"
        return f"was killed by {_signal_name(ended.si_status)}"

    def _last_line(self) -> str:
        """What it told last; programs tell their arguments, and cameras' URLs hold passwords."""
        told = self._told.decode(errors="replace")
        if len(self._told) == _TOLD_BYTES:  # it may begin inside of a URL, where no password is known as one
            told = "".join(told.split(maxsplit=1)[1:])
        lines = [line.strip() for line in told.splitlines()]
        last = next((line for line in reversed(lines) if line), "")
        return f": {printable(without_password(last), _LONGEST_LINE)}" if last else ""


def _signal_name(number: int) -> str:
    """As `SIGKILL`; those between SIGRTMIN and SIGRTMAX have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
