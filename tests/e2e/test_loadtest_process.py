"""The load test as a process: told to stop, it leaves nothing behind."""

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil

from spillover.lab.loadtest.results import read_report
from tests.support.models import colour_classifier
from tests.support.processes import LIMIT_S, SPILLOVER, wait_until
from tests.support.serving import jpeg_of


def test_sigterm_stops_everything_it_started(tmp_path: Path) -> None:
    """In the middle of a run, SIGTERM ends the server and the edges too, and the exit code says so.

    What had ended is in a report, and what the test would take stands before all.
    """
    colour_classifier(tmp_path / "home" / "models")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "red.jpg").write_bytes(jpeg_of((0, 0, 255)))
    cell = {"source": str(pictures), "modes": ["cloud_only"], "links": ["quick"]}
    config = {
        "edge_model": "colour/1",
        "cloud_model": "colour/1",
        "deadline_s": 0.1,
        "modes": {"cloud_only": {"mode": "cloud_only"}},
        "links": {"quick": {}},
        "scenarios": {
            "short": cell | {"window_s": 0.1, "warm_up_s": 0.1, "repeats": 1},
            "long": cell | {"window_s": 600},
        },
    }
    path = tmp_path / "load.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*SPILLOVER, "lab", "loadtest", "-c", str(path), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SPILLOVER_HOME": str(tmp_path / "home")},
    )
    try:
        results = out / "long" / "cloud_only-quick-1" / "repeat-0" / "edge-0.jsonl"
        wait_until(lambda: results.exists() and results.stat().st_size > 0, process)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2  # a server and an edge
        process.send_signal(signal.SIGTERM)
        told, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 128 + signal.SIGTERM, errors
        assert told.startswith("This will take about 30 min: ")
        report = read_report(out)
        assert [cell.scenario for cell in report.cells] == ["short"]
        assert any("did not end: it was interrupted" in note for note in report.notes)
        _, alive = psutil.wait_procs(children, timeout=LIMIT_S)
        assert not alive
    finally:
        process.kill()
        process.communicate()
