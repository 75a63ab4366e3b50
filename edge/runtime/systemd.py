"""Tells systemd how the daemon is: ready, stopping, alive. Without systemd every call does nothing.

The protocol of sd_notify(3): one datagram of `NAME=VALUE` lines to the socket that `$NOTIFY_SOCKET` names.
"""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """The way to systemd; `environ` is the process's."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched = environ.get("WATCHDOG_PID") in {None, str(os.getpid())}
        micros = environ.get("WATCHDOG_USEC", "0")
        self.watchdog_s = int(micros) / 1e6 if watched and micros.isdigit() else 0.0
        """systemd ends the daemon when it hears nothing for so many seconds; 0 is no watchdog."""

    def ready(self, status: str) -> None:
        """The daemon works."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """Nothing hangs."""
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self, why: str) -> None:
        """The daemon ends, and why."""
        self._send(f"STOPPING=1\nSTATUS={why}")

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
