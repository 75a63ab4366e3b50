"""A sink that keeps results in memory."""

from spillover.common.types import Result
from spillover.edge.results.delivery import Event


class MemorySink:
    """Keeps everything in lists; `closed` tells whether it was let go."""

    refused = ()

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.events: list[Event] = []
        self.closed = False

    def start(self) -> None:
        """Nothing runs in the background."""

    def notice(self, event: Event) -> None:
        """Events are taken in their turn."""

    def wait_for_room(self, timeout_s: float) -> bool:
        """There always is."""
        del timeout_s
        return True

    def write(self, result: Result) -> None:
        """Append it."""
        self.results.append(result)

    def tell(self, event: Event) -> None:
        """Append it."""
        self.events.append(event)

    def flush(self) -> None:
        """There is nothing to flush."""

    def reopen(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """Note it."""
        self.closed = True
