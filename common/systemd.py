"""Messages to systemd: sd_notify(3), that a process is ready, alive, reloading or stopping."""

import os
import socket
import time
from collections.abc import Mapping

_WAIT_S = 1.0


class Notifier:
    """Sends datagrams to the socket that `$NOTIFY_SOCKET` names; without one, does nothing.

    `environ` is the environment of the process.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched = environ.get("WATCHDOG_PID") in {None, str(os.getpid())}
        micros = environ.get("WATCHDOG_USEC", "0")
        self.watchdog_s = int(micros) / 1e6 if watched and micros.isdigit() else 0.0
        """systemd kills the process after so many seconds without `alive`; 0 is no watchdog."""

    def ready(self, status: str) -> None:
        """Report that the process has started, or has read its configuration again."""
        self._send(f"READY=1\nSTATUS={_line(status)}", _WAIT_S)

    def alive(self, status: str) -> None:
        """Reset the watchdog's timer. Never waits: another will follow."""
        self._send(f"WATCHDOG=1\nSTATUS={_line(status)}", 0.0)

    def status(self, status: str) -> None:
        """Say in one line what the process does now."""
        self._send(f"STATUS={_line(status)}", 0.0)

    def reloading(self) -> None:
        """Report that the configuration is being read again; `ready` ends that (Type=notify-reload)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", _WAIT_S)

    def stopping(self, why: str, limit_s: float) -> None:
        """Report why the process stops, and extend its stop timeout to `limit_s` seconds."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(limit_s * 1e6)}\nSTATUS={_line(why)}", _WAIT_S)

    def _send(self, message: str, wait_s: float) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.settimeout(wait_s)
                link.connect(self._address)
                link.sendall(message.encode())
        except OSError:
            pass  # systemd that does not listen is no reason to stop


def _line(text: str) -> str:
    """`text` in one line: the next line would be another message, and an error may have several lines."""
    return "; ".join(line.strip() for line in text.splitlines())


SILENT = Notifier({})
"""Tells nobody."""
