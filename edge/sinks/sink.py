"""What every sink can do: take results and events, and store or send them when asked."""

from collections.abc import Sequence
from typing import Protocol

from spillover.common.types import Result
from spillover.edge.results.delivery import Event


class Sink(Protocol):
    """Takes results away. Used by one thread at a time, but for `notice`; may block, may raise OSError.

    What `write` and `tell` took is held until a `flush` succeeds; one that fails can be tried again.
    """

    @property
    def refused(self) -> Sequence[Result | Event]:
        """What the last `flush`, whether it failed or not, was told is never going to be taken; not held."""
        ...

    def start(self) -> None:
        """Start what runs in the background; called once, before anything is written."""
        ...

    def notice(self, event: Event) -> None:
        """Learn of an event before it is queued, on the thread where it happened; must not block."""
        ...

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until the sink can take an item, at most `timeout_s` seconds; tell whether it can."""
        ...

    def write(self, result: Result) -> None:
        """Accept a result; `flush` stores or sends it."""
        ...

    def tell(self, event: Event) -> None:
        """Accept an event; `flush` stores or sends it."""
        ...

    def flush(self) -> None:
        """Store or send everything accepted so far."""
        ...

    def reopen(self) -> None:
        """Flush to the file that is open, then go on in the one that is at its path now; else do nothing."""
        ...

    def close(self) -> None:
        """Release all resources, whether started or not; what was not flushed is lost."""
        ...
