"""Progress of long work: a bar on a terminal, silence elsewhere."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Something that watches a loop."""

    def track(self, items: Sequence[T], label: str) -> Iterable[T]:
        """Yield the items while showing how far it is."""
        ...


class Silent:
    """Shows nothing."""

    def track(self, items: Sequence[T], label: str) -> Iterable[T]:
        """Yield the items."""
        del label
        return items


class Bar:
    """A bar on standard error, with the time left."""

    def track(self, items: Sequence[T], label: str) -> Iterable[T]:
        """Yield the items under a bar."""
        from rich.console import Console
        from rich.progress import track

        return track(items, description=label, console=Console(stderr=True))
