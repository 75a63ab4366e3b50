"""A disk that is slow, not broken: one system call waits until the test lets it pass."""

import threading
from collections.abc import Callable
from typing import Any

_CALL_LIMIT_S = 60.0
_RETURN_LIMIT_S = 10.0


class Gate:
    """Stands for a function that writes to a disk: closed, its callers wait; open, they pass to `call`."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self._opened = threading.Event()
        self._reached = threading.Event()

    def __call__(self, *arguments: Any) -> Any:
        """Wait for the gate, then call."""
        self._reached.set()
        assert self._opened.wait(_CALL_LIMIT_S), "the test left the gate closed"
        return self._call(*arguments)

    def wait_until_reached(self) -> None:
        """Return when a caller waits here."""
        assert self._reached.wait(_CALL_LIMIT_S), "nobody has written to the disk"

    def open(self) -> None:
        """Let callers pass, now and from now on."""
        self._opened.set()


def returns(work: Callable[[], object]) -> bool:
    """Run `work` on a thread of its own; whether it returned, which work that never waits does at once."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_RETURN_LIMIT_S)
    return not thread.is_alive()
