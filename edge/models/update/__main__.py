"""The child's life: read a request, fetch and check through the parent, say how it ended.

It gives way to everything, and is the first that a full memory ends.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from spillover.common.errors import ConfigError, UnavailableError
from spillover.common.processes import be_dispensable
from spillover.edge.models.update.pipe import Ask, Finished, Kind, Outcome, Request, piece, read_piece

_NICE = 15
_DISPENSABLE = 900
"""Of 1000."""


class Parent:
    """What the daemon fetches for this process."""

    def __init__(self, told: BinaryIO, asks: BinaryIO) -> None:
        self._told = told
        self._asks = asks

    def request(self) -> Request:
        """What is to be done. Raises UnavailableError."""
        kind, content = read_piece(self._told)
        if kind is not Kind.REQUEST:
            raise UnavailableError("the parent does not begin with a request")
        return msgspec.json.decode(content, type=Request)

    def metadata(self, name: str) -> bytes | None:
        """Metadata by its name; None: there is none. Raises UnavailableError."""
        pieces = self._fetched(Ask(metadata=name))
        return None if pieces is None else b"".join(pieces)

    def target(self, sha256: str, offset: int) -> Iterator[bytes]:
        """A target from an offset on. Raises UnavailableError."""
        pieces = self._fetched(Ask(sha256=sha256, offset=offset))
        if pieces is None:
            raise UnavailableError(f"the server has no target {sha256[:12]}")
        yield from pieces

    def finish(self, finished: Finished) -> None:
        """Say how it ended."""
        self._say(Kind.FINISHED, finished)

    def _fetched(self, ask: Ask) -> Iterator[bytes] | None:
        """The pieces of what was asked for; None: the server has nothing of that name."""
        self._say(Kind.ASK, ask)
        kind, content = read_piece(self._told)
        return None if kind is Kind.MISSING else self._pieces(kind, content)

    def _say(self, kind: Kind, content: Ask | Finished) -> None:
        self._asks.write(piece(kind, msgspec.json.encode(content)))
        self._asks.flush()

    def _pieces(self, kind: Kind, content: bytes) -> Iterator[bytes]:
        while kind is Kind.DATA:
            yield content
            kind, content = read_piece(self._told)
        if kind is not Kind.END:
            raise UnavailableError(content.decode(errors="replace") or "nothing has come")


def update(parent: Parent) -> Finished:
    """Do what the parent asks for."""
    # Here, because to load TUF and the runtime takes a second: the parent has its pipe before that.
    from spillover.edge.models.update.installing import DeviceFacts, RefusedError, bring
    from spillover.edge.models.update.trust import Trust, UntrustedError, Versions

    asked = parent.request()
    store, versions = Path(asked.store), None
    try:
        trust = Trust(store / "tuf", parent.metadata, asked.now_unix_s, Versions(*asked.versions))
        accepted = trust.versions
        versions = (accepted.root, accepted.targets, accepted.timestamp)
        facts = DeviceFacts(asked.software, asked.task, asked.labels_sha256, asked.runtimes, asked.has)
        bring(store, trust.bundle(asked.sha256), facts, parent.target)
    except RefusedError as error:
        return Finished(Outcome.REFUSED, str(error), versions)
    except (UntrustedError, UnavailableError, ConfigError, OSError) as error:
        return Finished(Outcome.FAILED, str(error), versions)
    return Finished(Outcome.INSTALLED, versions=versions)


def main() -> int:
    """Do one update; 1 where the parent has gone."""
    os.nice(_NICE)
    be_dispensable(_DISPENSABLE)
    # What libraries print must not come between the pieces.
    asks = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    parent = Parent(sys.stdin.buffer, asks)
    try:
        parent.finish(update(parent))
    except (UnavailableError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
