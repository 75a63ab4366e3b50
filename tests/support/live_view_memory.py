"""`python -m tests.support.live_view_memory`: what the live view takes of an edge's memory, beside its goals.

One daemon without the page and one with it run in turns, each with the page opened once; the latter then has
a viewer of pictures and results for a while, none, a crowd, and again none. Figures are medians of the turns.
"""

import argparse
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPResponse
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import msgspec
import numpy as np

from spillover.common.security.tokens import add_token
from tests.support.live_view import events, opened, pictures
from tests.support.models import colour_classifier
from tests.support.pki import Pki
from tests.support.processes import SPILLOVER, free_port

GOALS_MB = {"page idle": 2.0, "one viewer": 5.0}
WIDTH, HEIGHT, FPS = 640, 480, 10
SETTLE_FRAMES, VIEWED, CROWD = 60, 40, 100


def main() -> int:
    """Measure and print; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    missed = False
    with tempfile.TemporaryDirectory(prefix="spillover-live-") as name:
        folder = Path(name)
        _film(folder)
        for form, page in (("on loopback", Page(folder)), ("TLS and a token", _secure_page(folder))):
            figures: dict[str, list[Memory]] = {}
            for _ in range(turns):
                without, found = _run(Page(folder), live_view=False)["page idle"], _run(page, live_view=True)
                idle = found["page idle"]
                for what, now in found.items():
                    before = without if what == "page idle" else idle
                    more = Memory(now.resident - before.resident, now.own - before.own)
                    figures.setdefault(what, []).append(more)
            for what, each in figures.items():
                missed |= _tell(f"{what}, {form}", GOALS_MB.get(what), each)
    return int(missed)


class Memory(NamedTuple):
    """MB of one process: resident, and of that its own, which belongs to no file."""

    resident: float
    own: float


def _tell(what: str, goal: float | None, each: list[Memory]) -> bool:
    """Print one figure beside its goal; tells whether it is missed."""
    middle = statistics.median(one.resident for one in each)
    own = statistics.median(one.own for one in each)
    verdict = "" if goal is None else f"  goal {goal:+.1f}: {'met' if middle <= goal else 'MISSED'}"
    turns = ", ".join(f"{one.resident:+.1f}" for one in each)
    sys.stdout.write(f"{what:36} {middle:+5.1f} MB resident ({turns}), {own:+.1f} its own{verdict}\n")
    sys.stdout.flush()
    return goal is not None and middle > goal


@dataclass(frozen=True)
class Page:
    """How a daemon's page is served, and what its clients need."""

    folder: Path
    security: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    context: ssl.SSLContext | None = None


def _secure_page(folder: Path) -> Page:
    pki, tokens = Pki(folder / "ca"), folder / "tokens.yaml"
    headers = {"Authorization": f"Bearer {add_token(tokens, 'ladder', 'viewer', None)}"}
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens)}
    return Page(folder, security, headers, ssl.create_default_context(cafile=pki.ca))


def _film(folder: Path) -> None:
    (folder / "clip").mkdir()
    rng = np.random.default_rng(1)
    for number in range(20):
        noise = rng.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        cv2.imwrite(str(folder / "clip" / f"{number:02}.jpg"), cv2.resize(noise, (WIDTH, HEIGHT)))
    colour_classifier(folder / "models")


def _run(page: Page, *, live_view: bool) -> dict[str, Memory]:
    """The memory after a while; where there is a page, also with viewers and after they have gone."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "mode": "edge_only",
        "device_id": "memory",
        "camera": {"source": str(page.folder / "clip"), "fps": FPS, "loop": True},
        "model": {"folder": str(page.folder / "models" / "colour" / "1"), "session": {"threads": 1}},
        "sinks": [{"kind": "jsonl", "path": "/dev/null"}],
        "metrics_address": address,
        "live_view": live_view,
        "security": page.security,
    }
    path = page.folder / "edge.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    see = partial(opened, address, headers=page.headers, context=page.context)
    process = subprocess.Popen([*SPILLOVER, "edge", "-c", str(path)], stderr=subprocess.DEVNULL)
    try:
        _wait_for_frames(see, SETTLE_FRAMES)
        for name in ("/", "/live.js", "/live.css") if live_view else ("/metrics",):
            with see(name) as answer:
                answer.read()
        found = {"page idle": _memory(process.pid)}
        if live_view:
            with see("/live.mjpg") as shown, see("/events") as told:
                parts = events(told)
                for _ in islice(pictures(shown), VIEWED):
                    next(parts)
                found["one viewer"] = _memory(process.pid)
            _wait_for_frames(see, SETTLE_FRAMES)
            found["viewer gone"] = _memory(process.pid)
            with ExitStack() as stack:
                for _ in range(CROWD):
                    stack.enter_context(see("/live.mjpg"))
                _wait_for_frames(see, SETTLE_FRAMES)
            _wait_for_frames(see, SETTLE_FRAMES)
            found[f"{CROWD} viewers gone"] = _memory(process.pid)
    finally:
        process.kill()
        process.wait()
    return found


def _wait_for_frames(see: Callable[[str], AbstractContextManager[HTTPResponse]], more: int) -> None:
    """Until so many more frames are captured than now."""
    first: int | None = None
    for _ in range(600):
        time.sleep(0.1)
        try:
            with see("/metrics") as answer:
                text = answer.read().decode()
        except OSError:  # it has not begun
            continue
        count = int(float(re.findall(r"^spillover_edge_frames_captured_total (\S+)", text, re.MULTILINE)[0]))
        first = count if first is None else first
        if count >= first + more:
            return
    raise SystemExit("the daemon captures nothing")


def _memory(process_id: int) -> Memory:
    text = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="ascii")
    found = [re.findall(rf"^{name}: +(\d+) kB", text, re.MULTILINE)[0] for name in ("Rss", "Anonymous")]
    return Memory(*(int(one) * 1024 / 1e6 for one in found))


if __name__ == "__main__":
    raise SystemExit(main())
