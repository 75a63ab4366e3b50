"""`python -m tests.support.live_view_memory`: what the live view takes of an edge's memory, beside its goals.

One daemon without the page and one with it run in turns, each with the page opened once; the latter then has
a viewer of pictures and results for a while, and again none. Figures are medians of the turns.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import cv2
import msgspec
import numpy as np

from spillover.common.errors import UnavailableError
from spillover.common.net.fetch import fetch
from tests.support.live_view import events, opened, pictures
from tests.support.models import colour_classifier
from tests.support.processes import SPILLOVER, free_port

GOALS_MB = {"page idle": 2.0, "one viewer": 5.0}
WIDTH, HEIGHT, FPS = 640, 480, 10
SETTLE_FRAMES, VIEWED = 60, 40


def main() -> int:
    """Measure and print; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    figures: dict[str, list[float]] = {"page idle": [], "one viewer": [], "viewer gone": []}
    with tempfile.TemporaryDirectory(prefix="spillover-live-") as folder:
        _film(Path(folder))
        for _ in range(turns):
            without = _run(Path(folder), live_view=False)
            with_page = _run(Path(folder), live_view=True)
            figures["page idle"].append(with_page[0] - without[0])
            figures["one viewer"].append(with_page[1] - with_page[0])
            figures["viewer gone"].append(with_page[2] - with_page[0])
    missed = False
    for name, found in figures.items():
        middle = statistics.median(found)
        goal = GOALS_MB.get(name)
        verdict = "" if goal is None else f"  goal {goal:+.1f}: {'met' if middle <= goal else 'MISSED'}"
        missed |= goal is not None and middle > goal
        each = ", ".join(f"{one:+.1f}" for one in found)
        sys.stdout.write(f"{name:12} {middle:+5.1f} MB resident (turns: {each}){verdict}\n")
    return int(missed)


def _film(folder: Path) -> None:
    (folder / "clip").mkdir()
    rng = np.random.default_rng(1)
    for number in range(20):
        noise = rng.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        cv2.imwrite(str(folder / "clip" / f"{number:02}.jpg"), cv2.resize(noise, (WIDTH, HEIGHT)))
    colour_classifier(folder / "models")


def _run(folder: Path, *, live_view: bool) -> list[float]:
    """Resident MB after a while; where there is a page, also with a viewer and after it has gone."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "mode": "edge_only",
        "device_id": "memory",
        "camera": {"source": str(folder / "clip"), "fps": FPS, "loop": True},
        "model": {"folder": str(folder / "models" / "colour" / "1"), "session": {"threads": 1}},
        "sinks": [{"kind": "jsonl", "path": "/dev/null"}],
        "metrics_address": address,
        "live_view": live_view,
    }
    path = folder / "edge.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    process = subprocess.Popen([*SPILLOVER, "edge", "-c", str(path)], stderr=subprocess.DEVNULL)
    try:
        _wait_for_frames(address, SETTLE_FRAMES)
        for page in ("/", "/live.js", "/live.css") if live_view else ("/metrics",):
            fetch(address, page, 5.0)
        found = [_resident_mb(process.pid)]
        if live_view:
            with ExitStack() as stack:
                shown = pictures(stack.enter_context(opened(address, "/live.mjpg")))
                told = events(stack.enter_context(opened(address, "/events")))
                for _ in islice(shown, VIEWED):
                    next(told)
                found.append(_resident_mb(process.pid))
            _wait_for_frames(address, SETTLE_FRAMES)
            found.append(_resident_mb(process.pid))
    finally:
        process.kill()
        process.wait()
    return found


def _wait_for_frames(address: str, more: int) -> None:
    """Until so many more frames are captured than now."""
    first: int | None = None
    for _ in range(600):
        time.sleep(0.1)
        try:
            text = fetch(address, "/metrics", 5.0)[1].decode()
        except UnavailableError:  # it has not begun
            continue
        count = int(float(re.findall(r"^spillover_edge_frames_captured_total (\S+)", text, re.MULTILINE)[0]))
        first = count if first is None else first
        if count >= first + more:
            return
    raise SystemExit("the daemon captures nothing")


def _resident_mb(process_id: int) -> float:
    text = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="ascii")
    return int(re.findall(r"^Rss: +(\d+) kB", text, re.MULTILINE)[0]) * 1024 / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
