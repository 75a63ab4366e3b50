"""What a sink is; and the one that keeps results in memory."""

from typing import Protocol

from spillover.common.types import Result
from spillover.edge.results.delivery import Event


class Sink(Protocol):
    """Takes results away. Used by one thread at a time; may block, may raise OSError.

    What `write` and `tell` took is held until a `flush` succeeds; one that fails can be tried again.
    """

    def write(self, result: Result) -> None:
        """Take one result."""
        ...

    def tell(self, event: Event) -> None:
        """Take one event."""
        ...

    def flush(self) -> None:
        """Put what was written where it can be seen."""
        ...

    def close(self) -> None:
        """Let go; what was not flushed is lost."""
        ...


class MemorySink:
    """Keeps everything in lists."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.events: list[Event] = []

    def write(self, result: Result) -> None:
        """Append it."""
        self.results.append(result)

    def tell(self, event: Event) -> None:
        """Append it."""
        self.events.append(event)

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """There is nothing to close."""
