"""A daemon as a process whose configuration is written anew and reloaded by SIGHUP."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from spillover.common.files import write_atomic
from spillover.edge.sinks.record import is_event
from tests.support.models import SIDE, colour_classifier
from tests.support.processes import SPILLOVER
from tests.support.scripted_cloud import PATIENCE_S

FPS = 100


class Site:
    """A daemon as a process on an endless source, its configuration file, its log and its results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "edge.yaml"
        self.log = folder / "log"
        self.lines = folder / "out.jsonl"
        (folder / "pictures").mkdir()
        cv2.imwrite(str(folder / "pictures" / "0.png"), np.full((SIDE, SIDE, 3), 90, np.uint8))
        self.model = {"folder": str(colour_classifier(folder / "models")), "session": {"threads": 1}}
        self.camera = {"source": str(folder / "pictures"), "fps": FPS, "loop": True, "queue_size": 50}
        self.process: subprocess.Popen[bytes]

    def write(self, **sections: Any) -> None:
        """The configuration file (JSON is YAML), never half written: a reload may read it just now."""
        config = {
            "mode": "edge_only",
            "camera": self.camera,
            "model": self.model,
            "sinks": [self.sink(self.lines)],
            "stop_timeout_s": PATIENCE_S,
            "log": {"json": True},
        }
        write_atomic(self.path, json.dumps(config | sections).encode())

    def sink(self, path: Path, **keys: Any) -> dict[str, Any]:
        """A sink of JSON lines without events."""
        return {"kind": "jsonl", "path": str(path), "events": False} | keys

    @contextmanager
    def running(self, **sections: Any) -> Iterator[None]:
        """The daemon, from its first result to SIGTERM, which must end it with code 0."""
        self.write(**sections)
        with self.log.open("wb") as log:
            command = [*SPILLOVER, "edge", "-c", str(self.path)]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            self.until(lambda: bool(self.results(self.lines)))
            yield
            self.process.terminate()
            assert self.process.wait(PATIENCE_S) == 0, self.log.read_text()
        finally:
            self.process.kill()
            self.process.wait(PATIENCE_S)

    def hang_up(self, times: int = 1) -> dict[str, Any]:
        """SIGHUP; the log's word on the reload, the `times`th from now."""
        before = len(self.reloads())
        self.process.send_signal(signal.SIGHUP)
        self.until(lambda: len(self.reloads()) >= before + times)
        return self.reloads()[before + times - 1]

    def reloads(self) -> list[dict[str, Any]]:
        """What the log says of reloads."""
        return [entry for entry in self.entries() if "reloaded" in entry["event"]]

    def entries(self) -> list[dict[str, Any]]:
        """The whole lines of the log."""
        lines = self.log.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def results(self, path: Path) -> list[dict[str, Any]]:
        """The whole lines of a sink that are results."""
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")[:-1]
        return [msgspec.json.decode(line) for line in lines if not is_event(line)]

    def of(self, camera: str) -> list[dict[str, Any]]:
        """The results of one camera."""
        return [line for line in self.results(self.lines) if line["camera_id"] == camera]

    def more(self, path: Path) -> list[dict[str, Any]]:
        """The results that come from now on, at least three."""
        before = len(self.results(path))
        self.until(lambda: len(self.results(path)) >= before + 3)
        return self.results(path)[before:]

    def until(self, condition: Callable[[], bool]) -> None:
        """Look again and again, within a limit; the daemon must live."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)

    def books(self) -> dict[str, int]:
        """The counters of the last line of the log."""
        return {key: value for key, value in self.entries()[-1].items() if isinstance(value, int)}

    def answered(self) -> int:
        """How many first results there were, by the books; the others of the captured frames were dropped."""
        return sum(count for key, count in self.books().items() if key.startswith("frames["))
