"""The terminal: where tables are printed and progress is shown."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

T = TypeVar("T")

_WIDTH_OF_A_FILE = 110
_EVERY_S = 10.0
_MINUTE_S = 60.0
_HOUR_MIN = 60


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
    """A bar on standard error with the time left; where that is no terminal, a line every ten seconds."""

    def track(self, items: Iterable[T], label: str) -> Iterable[T]:
        """Yield the items under a bar, or between lines."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        if console.is_terminal:
            return track(items, description=label, console=console)
        return _between_lines(items, label, lambda line: console.print(line, highlight=False, soft_wrap=True))


def _between_lines(
    items: Iterable[T],
    label: str,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Yield the items; say how many are done and what the rest may take, and at the end what all took."""
    total = len(items) if isinstance(items, Sized) else None
    began_s = said_s = clock()
    for done, item in enumerate(items):
        now_s = clock()
        if done and now_s - said_s >= _EVERY_S:
            of = (
                f" of {total}, about {lasting((now_s - began_s) / done * (total - done))} left"
                if total
                else ""
            )
            say(f"{label}: {done}{of}")
            said_s = now_s
        yield item
    say(f"{label}: done in {lasting(clock() - began_s)}")


def lasting(seconds: float) -> str:
    """A span of time in words."""
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE_S)
    return f"{minutes} min" if minutes < _HOUR_MIN else f"{minutes // _HOUR_MIN} h {minutes % _HOUR_MIN} min"
