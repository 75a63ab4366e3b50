"""Writes the configuration of each recommended mode, to be started from any folder, or why there is none."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spillover.common.errors import ModelError
from spillover.common.model.locate import find_model_folder
from spillover.lab.files import merged, write_whole, write_yaml
from spillover.lab.loadtest.answer.parts import Verdict
from spillover.lab.loadtest.edges import edge_config
from spillover.lab.loadtest.paths import EDGE_MODELS, changed, placed_edge
from spillover.lab.loadtest.scenarios import Scenarios

DEFAULT_ADDRESS = "127.0.0.1:50051"
FOLDER = "recommended"


def write_recommended(verdicts: Sequence[Verdict], scenarios: Scenarios) -> None:
    """Fill the folder `recommended` of the test's output; its README.md says what each part is, or why not.

    Raises:
        SpilloverError: the disk is full, or may not be written.
    """
    out = scenarios.out / FOLDER
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    parts = [f"- `{one.place}`: {_written(one, scenarios, out / one.place)}" for one in verdicts]
    parts = parts or ["Nothing: no cell of real edges has a quality to be judged by."]
    write_whole(out / "README.md", "\n".join(["# What the load test recommends", "", *parts, ""]).encode())


def _written(verdict: Verdict, scenarios: Scenarios, folder: Path) -> str:
    """Write one verdict's files; says what they are, or why there are none."""
    if verdict.chosen is None:
        return f"no configuration. {verdict.sentences[0]}"
    bench = scenarios.real(scenarios.config.scenarios[verdict.scenario])
    folder.mkdir(parents=True)
    forced = {
        "camera": {"source": str(Path(bench.references[0].camera_source).absolute())},
        "uplink": {"address": bench.config.cloud.address or DEFAULT_ADDRESS},
    }
    edge = edge_config(bench.config, verdict.chosen, forced)
    write_yaml(folder / "edge.yaml", from_anywhere(edge, folder))
    said = f"`edge.yaml` of mode `{verdict.chosen}`; its camera is the clip of the test: put yours there"
    if bench.server.folder is None:
        return f"{said}. No `cloud.yaml`: the server was not started by the test"
    cloud = yaml.safe_load((bench.server.folder / "cloud.yaml").read_text(encoding="utf-8"))
    write_yaml(folder / "cloud.yaml", merged(cloud, {"listen": DEFAULT_ADDRESS}))
    return f"{said}. `cloud.yaml` of its server"


def from_anywhere(edge: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """An edge.yaml with absolute paths; the file of gains is copied to `folder`."""

    def copied(path: str, _: Path) -> str:
        return path and str(shutil.copy(Path(path).expanduser(), folder.absolute()))

    def found(name: str, _: Path) -> str:
        try:
            return str(find_model_folder(name).absolute())
        except ModelError:
            return name  # the file model.yaml of a network, placed already

    here = Path.cwd()
    return changed(
        changed(placed_edge(edge, here), EDGE_MODELS, here, found), ("policy.gain_file",), here, copied
    )
