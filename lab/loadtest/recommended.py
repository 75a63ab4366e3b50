"""Writes the configuration of each recommended mode, to be started from any folder, or why there is none."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from spillover.common.errors import ModelError
from spillover.common.model.locate import find_model_folder
from spillover.lab.files import merged, write_whole, write_yaml
from spillover.lab.loadtest.answer.parts import Verdict
from spillover.lab.loadtest.edges import edge_config
from spillover.lab.loadtest.scenarios import Scenarios

DEFAULT_ADDRESS = "127.0.0.1:50051"
FOLDER = "recommended"
_FILES = frozenset({"ca", "certificate", "client_ca", "crl", "key", "path", "repository"})
_MODELS = frozenset({"folder", "manifest"})
_COPIED = "gain_file"


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
    write_yaml(folder / "cloud.yaml", from_anywhere(merged(cloud, {"listen": DEFAULT_ADDRESS}), folder))
    return f"{said}. `cloud.yaml` of its server"


def from_anywhere(section: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The section with all its paths absolute; the file of gains is copied to `folder`."""

    def items() -> Iterator[tuple[str, Any]]:
        for key, value in section.items():
            if isinstance(value, Mapping):
                yield key, from_anywhere(value, folder)
            elif isinstance(value, list | tuple):
                yield key, [from_anywhere(v, folder) if isinstance(v, Mapping) else v for v in value]
            elif isinstance(value, str) and value not in {"", "-"}:
                yield key, _absolute(key, value, folder)
            else:
                yield key, value

    return dict(items())


def _absolute(key: str, value: str, folder: Path) -> str:
    path = Path(value).expanduser()
    if key == _COPIED and path.is_file():
        return str(Path(shutil.copy(path, folder)).absolute())
    if key in _MODELS:
        try:
            return str(find_model_folder(value).absolute())
        except ModelError:
            return str(path.absolute())  # the file model.yaml of a network
    return str(path.absolute()) if key in _FILES or key.endswith("_file") else value
