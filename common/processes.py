"""Child processes: they do not outlive the one that started them, and go before it when memory is full."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

# Asks the kernel for a signal at the parent's death (prctl(2), PR_SET_PDEATHSIG = 1, kept over execve), then
# becomes the command. In the child, since code between fork and exec may hang a parent that has threads.
_BIND = """
import ctypes, os, sys
number, parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, int(number))
if os.getppid() != int(parent):
    sys.exit(128 + int(number))
os.execvp(command[0], command)
"""


def bound(command: Sequence[str], number: signal.Signals = signal.SIGTERM) -> list[str]:
    """`command`, sent signal `number` (on Linux) when the thread that starts it dies, even by kill -9.

    The process id is that of the command: the little program in front replaces itself.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-ISc", _BIND, str(int(number)), str(os.getpid()), *command]


def be_dispensable(of_1000: int) -> None:
    """Have a full memory end this process first, the sooner the more (proc_pid_oom_score_adj(5)).

    A process may always make itself more dispensable; where there is no such file, nothing happens.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(of_1000), encoding="ascii")
