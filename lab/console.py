"""Where the workbench prints."""

from rich.console import Console

_WIDTH_OF_A_FILE = 110


def open_console() -> Console:
    """A console as wide as its terminal; where there is none (a pipe, a log), wide enough for tables."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_OF_A_FILE)
