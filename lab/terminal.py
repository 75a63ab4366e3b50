"""The terminal: where tables are printed and progress is shown."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

T = TypeVar("T")

_WIDTH_OF_A_FILE = 110


def open_console() -> "Console":
    """A console as wide as its terminal, or 110 columns, enough for tables, in a pipe or log."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_OF_A_FILE)


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str | None = None,
    caption: str | None = None,
    left: Sequence[str] = (),
    wrap: bool = False,
) -> "Table":
    """A table whose first column and those in `left` are set left, all others right.

    The first column keeps its lines whole unless `wrap` is set.
    """
    from rich.table import Table

    made = Table(title=title, caption=caption, title_justify="left")
    for number, heading in enumerate(headings):
        text = not number or heading in left
        made.add_column(heading, justify="left" if text else "right", no_wrap=not (number or wrap))
    for row in rows:
        made.add_row(*row)
    return made


class Progress(Protocol):
    """Shows how far a loop is."""

    def track(self, items: Iterable[T], label: str) -> Iterable[T]:
        """Yield the items and show how many are done."""
        ...


class Silent:
    """Shows nothing."""

    def track(self, items: Iterable[T], label: str) -> Iterable[T]:
        """Yield the items."""
        del label
        return items


class Bar:
    """A bar on standard error with the time left; nothing where that is no terminal."""

    def track(self, items: Iterable[T], label: str) -> Iterable[T]:
        """Yield the items under a bar."""
        from rich.console import Console
        from rich.progress import track

        return track(items, description=label, console=Console(stderr=True))
