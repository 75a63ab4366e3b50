"""What pictures and clips share: names that are coming, and writing with a reason for each loss."""

import errno
import threading
from collections.abc import Callable
from typing import Protocol

from spillover.common.errors import InUseError
from spillover.common.log import get_logger
from spillover.edge.evidence.store import Store

_log = get_logger("evidence")

QUEUE_FULL, NO_ROOM, WRITE_FAILED = "queue full", "disk full", "write failed"
CHANGED, NOT_ENCODED, STOPPED = "settings changed", "not encoded", "stopped"


class Observer(Protocol):
    """Hears what becomes of evidence. Must not block."""

    def evidence_stored(self, kind: str, camera_id: str, frame_id: str, name: str) -> None:
        """It is on the disk, whole."""
        ...

    def evidence_lost(self, kind: str, reason: str) -> None:
        """It was wanted, and will not be there."""
        ...


class Writer:
    """Knows which names stand for something. Thread-safe; only `attempt` waits for the disk."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._coming: set[str] = set()
        self._failure = ""

    def expect(self, name: str) -> None:
        """A file of this name is on its way; `settled` follows."""
        with self._lock:
            self._coming.add(name)

    def settled(self, name: str) -> None:
        """It is there, or lost."""
        with self._lock:
            self._coming.discard(name)

    def knows(self, name: str) -> bool:
        """Whether a file of this name is there or on its way."""
        return name in self._coming or name in self.store

    def attempt(self, work: Callable[[], None]) -> str:
        """Do what needs the disk; why it failed, which is logged once for each reason in a row."""
        try:
            work()
        except (OSError, InUseError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if self._failure != why:
                _log.error("evidence is lost", folder=str(self.store.folder), error=why)
            self._failure = why
            is_full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
            return NO_ROOM if is_full else WRITE_FAILED
        self._failure = ""
        return ""
