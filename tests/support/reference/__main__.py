"""`python -m tests.support.reference` writes the pages."""

from tests.support.reference.pages import PAGES
from tests.support.reference.records import ROOT

if __name__ == "__main__":
    folder = ROOT / "docs" / "reference"
    folder.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (folder / name).write_text(make(), encoding="utf-8")
