"""`python -m tests.support.reference` writes the pages, the table of folders and the dashboards."""

from tests.support.reference.dashboards import dashboard
from tests.support.reference.folders import with_folders
from tests.support.reference.pages import PAGES
from tests.support.reference.records import ROOT

if __name__ == "__main__":
    reference = ROOT / "docs" / "reference"
    reference.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (reference / name).write_text(make(), encoding="utf-8")
    architecture = ROOT / "ARCHITECTURE.md"
    architecture.write_text(with_folders(architecture.read_text(encoding="utf-8")), encoding="utf-8")
    grafana = ROOT / "deploy" / "grafana"
    grafana.mkdir(exist_ok=True)
    for side in ("edge", "cloud"):
        (grafana / f"{side}.json").write_text(dashboard(side), encoding="utf-8")
