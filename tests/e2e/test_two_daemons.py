"""Two daemons that are to use one file: the second ends with exit code 3 and names it; the first goes on."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from tests.chaos.edge import Edge
from tests.support.models import SIDE, colour_classifier
from tests.support.processes import LIMIT_S, SPILLOVER
from tests.support.scripted_cloud import no_server_address

_BUDGET = {"bytes": 50_000_000, "per": "hour"}


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A daemon that works through a picture again and again and writes nowhere."""
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "0.png"), np.full((SIDE, SIDE, 3), 200, np.uint8))
    return {
        "mode": "cloud_only",
        "camera": {"source": str(tmp_path / "pictures"), "loop": True},
        "model": {"folder": str(colour_classifier(tmp_path / "models")), "session": {"threads": 1}},
        "uplink": {"address": no_server_address()},
        "sinks": [{"kind": "jsonl", "path": "/dev/null"}],
    }


def test_the_second_daemon_on_a_file_ends_and_names_it(tmp_path: Path, plain: dict[str, Any]) -> None:
    """Exit code 3, the path and the process; after kill -9 of the first, untidy as it is, another may."""
    spool, budget, lines, rows = (str(tmp_path / name) for name in ("spool", "budget", "lines", "rows"))
    shared: list[tuple[str, str, dict[str, Any]]] = [
        ("spool.path", spool, {"spool": {"path": spool, "max_mb": 1.0}}),
        ("policy.budget.state_file", budget, {"policy": {"budget": _BUDGET | {"state_file": budget}}}),
        ("sinks[0]", lines, {"sinks": [{"kind": "jsonl", "path": lines}]}),
        ("sinks[0]", rows, {"sinks": [{"kind": "sqlite", "path": rows}]}),
    ]
    of_all = {name: value for _, _, part in shared for name, value in part.items()}
    of_all["sinks"] = [sink for _, _, part in shared for sink in part.get("sinks", ())]
    first = Edge(tmp_path, "first", plain | of_all, {})
    try:
        for key, path, part in shared:
            second = tmp_path / "second.yaml"
            second.write_bytes(msgspec.yaml.encode(plain | part))
            command = [*SPILLOVER, "edge", "-c", str(second)]
            run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            assert run.returncode == 3, run.stderr
            assert f"{key}: {path} is in use by process {first.pid}" in run.stderr
        assert first.runs
    finally:
        first.kill()
    third = Edge(tmp_path, "third", plain | of_all, {})
    try:
        assert third.stop() == 0
    finally:
        third.kill()
