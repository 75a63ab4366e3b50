"""The Markdown pages of this project, and what can be checked in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support.reference.markdown import slug

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One page. `path` is relative to the root."""

    path: Path

    @cached_property
    def text(self) -> str:
        """All of it."""
        return (ROOT / self.path).read_text(encoding="utf-8")

    def blocks(self, language: str) -> list[str]:
        """Fenced blocks of that language."""
        return [body for found, body in _FENCE.findall(self.text) if found == language]

    @property
    def shell_lines(self) -> Iterator[str]:
        """Lines of shell blocks and of indented blocks, without comments."""
        for block in (*self.blocks("sh"), *_INDENTED.findall(self._prose)):
            yield from (line.partition("  #")[0].strip() for line in block.replace("\\\n", "").splitlines())

    @property
    def inline_code(self) -> list[str]:
        """What stands between backticks in a line."""
        return _CODE.findall(self._prose)

    @property
    def links(self) -> list[str]:
        """Targets of links that are no addresses."""
        return [target for target in _LINK.findall(self._prose) if "://" not in target]

    @property
    def anchors(self) -> set[str]:
        """What a link into this page may name after `#`."""
        return {slug(re.sub(r"[`*]", "", heading)) for heading in _HEADING.findall(self._prose)}

    @property
    def _prose(self) -> str:
        return _FENCE.sub("", self.text)


PAGES = tuple(
    Page(path.relative_to(ROOT)) for path in sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
)
