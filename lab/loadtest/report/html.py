"""The few building blocks of the page; every text is escaped here and nowhere else."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that is HTML already."""

    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table; `text` columns are set left, and `wrap` may break lines."""

    heading: str
    text: bool = False
    wrap: bool = False


Content = str | Markup


def escaped(content: Content) -> str:
    """As HTML."""
    return content.text if isinstance(content, Markup) else html.escape(content)


def element(tag: str, *contents: Content, css: str = "") -> Markup:
    """One element around its contents."""
    attribute = f' class="{html.escape(css)}"' if css else ""
    return Markup(f"<{tag}{attribute}>{''.join(map(escaped, contents))}</{tag}>")


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Content]], row_css: Sequence[str] = ()
) -> Markup:
    """A table; on a narrow screen each row becomes a card, whose figures bear their headings."""
    head = element("tr", *(element("th", c.heading, css="text" if c.text else "") for c in columns))
    body = []
    for index, row in enumerate(rows):
        cells = [_cell(column, content) for column, content in zip(columns, row, strict=True)]
        body.append(element("tr", *cells, css=row_css[index] if row_css else ""))
    return element("div", element("table", element("thead", head), element("tbody", *body)), css="scroll")


def figure(svg: bytes, title: str, caption: str) -> Markup:
    """A plot inside the page itself, with its title as the text for those who cannot see it."""
    data = base64.b64encode(svg).decode("ascii")
    image = Markup(f'<img alt="{html.escape(title)}" src="data:image/svg+xml;base64,{data}">')
    return element("figure", element("h3", title), image, element("figcaption", caption))


def details(summary: str, *contents: Content) -> Markup:
    """Something that is shown when it is asked for."""
    return element("details", element("summary", summary), *contents)


def page(title: str, *contents: Content) -> str:
    """The whole file."""
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(map(escaped, contents))
        + "\n</body>\n</html>\n"
    )


def _cell(column: Column, content: Content) -> Markup:
    heading, css = html.escape(column.heading), html.escape(_css(column))
    return Markup(f'<td class="{css}" data-heading="{heading}"><span>{escaped(content)}</span></td>')


def _css(column: Column) -> str:
    return " ".join(name for name, holds in (("text", column.text), ("wrap", column.wrap)) if holds)
