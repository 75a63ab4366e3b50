"""The table of folders in ARCHITECTURE.md, from the first sentence of each `__init__.py`."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.reference.markdown import prose, table
from tests.support.reference.records import ROOT

BEGIN, END = "<!-- folders: written by `make docs` -->", "<!-- folders: end -->"
_TREES = ("common", "edge", "cloud", "lab", "benchmarks")


def folders() -> str:
    """A table of the packages, two levels deep."""
    rows = ((f"`{path.relative_to(ROOT)}/`", prose(_sentence(path))) for path in _packages())
    return table(("folder", "what"), rows)


def with_folders(text: str) -> str:
    """`text` of ARCHITECTURE.md with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{folders()}\n{END}{after}"


def _packages() -> Iterator[Path]:
    for tree in _TREES:
        for path in sorted((ROOT / tree).rglob("__init__.py")):
            if len(path.relative_to(ROOT).parts) <= 3:
                yield path.parent


def _sentence(package: Path) -> str:
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
    return docstring.split("\n\n")[0].replace("\n", " ")
