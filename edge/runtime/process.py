"""The process: messages to systemd, stall detection, free memory, forced exit."""

import ctypes
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from spillover.common.log import end_process

EXIT_LIMIT_S = 3.0
"""What a process may take to end once its parts have stopped or were left behind."""


class Notifier:
    """Sends sd_notify(3) datagrams to the socket that `$NOTIFY_SOCKET` names; without one, does nothing.

    `environ` is the environment of the process.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched = environ.get("WATCHDOG_PID") in {None, str(os.getpid())}
        micros = environ.get("WATCHDOG_USEC", "0")
        self.watchdog_s = int(micros) / 1e6 if watched and micros.isdigit() else 0.0
        """systemd kills the daemon after so many seconds without `alive`; 0 is no watchdog."""

    def ready(self, status: str) -> None:
        """Report to systemd that the daemon has started."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """Reset systemd's watchdog timer."""
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self, why: str, limit_s: float) -> None:
        """Report to systemd why the daemon stops, and extend its stop timeout to `limit_s` seconds."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(limit_s * 1e6)}\nSTATUS={why}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.settimeout(1.0)
                link.connect(self._address)
                link.sendall(message.encode())
        except OSError:
            pass  # systemd that does not listen is no reason to stop


class StallDetector:
    """Tells work that takes too long from waiting for work.

    One thread works, another calls `hangs`. `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy_since_s: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Marks the body as one piece of work."""
        self._busy_since_s = self._clock()
        try:
            yield
        finally:
            self._busy_since_s = None

    def hangs(self, limit_s: float) -> bool:
        """Whether the current piece of work has taken longer than `limit_s` seconds."""
        since_s = self._busy_since_s
        return since_s is not None and self._clock() - since_s > limit_s


def release_free_memory() -> None:
    """Give the process's free memory back to the system (glibc's `malloc_trim`; elsewhere nothing).

    Loading a network frees as much again as the network keeps; glibc would hold on to it for good.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def end_process_after(limit_s: float, code: int, why: str) -> None:
    """Begin to count: in `limit_s` seconds the process ends with `code`, unless it has ended by then."""
    timer = threading.Timer(limit_s, end_process, (code, why))
    timer.daemon = True
    timer.start()
