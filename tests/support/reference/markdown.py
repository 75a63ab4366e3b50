"""Small parts of a Markdown page."""

import re
from collections.abc import Iterable, Sequence

GENERATED = "<!-- Generated from the code by `make docs`: edit the docstrings there, not this page. -->"


def page(title: str, *parts: str) -> str:
    """A whole page; empty parts are left out."""
    shown = (part.strip("\n") for part in parts)
    return "\n\n".join((GENERATED, f"# {title}", *filter(None, shown))) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are made to fit one line."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def alternatives(words: Sequence[str]) -> str:
    """`a`, `b` or `c`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def prose(text: str) -> str:
    """Text in which angle brackets outside code stay what they are."""
    spans = re.split(r"(`[^`]*`)", text)
    return "".join(span if span.startswith("`") else span.replace("<", "&lt;") for span in spans)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
