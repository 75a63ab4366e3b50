"""Runs a daemon in mode hybrid against a real cloud process, and tells which files its frames run through."""

import os
import socket
import threading
from collections import Counter
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

import spillover
from benchmarks.path.trace import Route, Tracer, Visit, route_of, split_at
from spillover.common.home import models_home
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.lab.files import sample_clip, write_yaml
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL
from spillover.lab.processes import running, wait_for_file

GOAL_FILES = 30
_FPS = 5.0
"""Slow enough that a frame's answer is back before the next frame is captured."""
_LIMIT_S = 120.0
_PROCESS = ("pipeline.py", "look")
_SEND = ("uplink/client.py", "send")
_DEADLINE_S = 10.0
"""Long: on a busy machine too every answer is in time, so that each frame takes the same path."""


def trace_offloaded_frames(frames: int, out: Path, console: Console) -> None:
    """Trace `frames` frames from the daemon's readiness on; print the route of one that was offloaded."""
    out.mkdir(parents=True, exist_ok=True)
    edge_folder = Path(spillover.__file__).parent / "edge"
    tracer = Tracer(edge_folder)
    address_file = out / "cloud.address"
    address_file.unlink(missing_ok=True)
    models = {"repository": str(models_home()), "load": [CLOUD_MODEL.parent.name]}
    write_yaml(out / "cloud.yaml", {"listen": "127.0.0.1:0", "models": models, "metrics": None})
    arguments = ["cloud", "-c", str(out / "cloud.yaml"), "--ready-file", str(address_file)]
    with running(arguments, out / "cloud.log") as cloud:
        address = wait_for_file(address_file, cloud, out / "cloud.log")
        _run_daemon(_config(address, frames, out), tracer, out)
    _print(tracer.visits, edge_folder.resolve(), console)


def _config(address: str, frames: int, out: Path) -> EdgeConfig:
    """Everything that a frame may pass: budget, audits, spool, temporal correction, two sinks."""
    for name in ("results.jsonl", "results.db", "spool", "budget"):
        (out / name).unlink(missing_ok=True)
    camera = {"source": str(sample_clip()), "fps": _FPS, "loop": True, "max_frames": frames}
    return msgspec.convert(
        {
            "mode": "hybrid",
            "deadline_s": _DEADLINE_S,
            "camera": camera,
            "model": {"folder": str(models_home() / EDGE_MODEL), "session": {"threads": 1}},
            "uplink": {"address": address},
            "policy": {
                "kind": "max_softmax",
                "threshold": 0.0,
                "audit_share": 0.5,
                "budget": {"bytes": 1_000_000_000, "per": "hour", "state_file": str(out / "budget")},
            },
            "temporal": {"refresh_s": 1.0, "max_age_s": 60.0},
            "spool": {"path": str(out / "spool"), "max_mb": 8},
            "sinks": [{"kind": "jsonl", "path": str(out / "results.jsonl")}],
        },
        EdgeConfig,
    )


def _run_daemon(config: EdgeConfig, tracer: Tracer, out: Path) -> None:
    """Run until the clip's frames are through; recording lasts from systemd's READY to the stop."""
    path = str(out.resolve() / "notify")
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(_LIMIT_S)
        os.environ["NOTIFY_SOCKET"] = path
        listener = threading.Thread(target=_record_from_ready, args=(notify, tracer), name="notify")
        listener.start()
        tracer.install()
        Daemon(config).run(on_stopping=tracer.stop)
        tracer.uninstall()
        listener.join(_LIMIT_S)


def _record_from_ready(notify: socket.socket, tracer: Tracer) -> None:
    while b"READY=1" not in notify.recv(4096):
        pass
    tracer.start()


def _print(visits: list[Visit], folder: Path, console: Console) -> None:
    segments = [s for s in split_at(visits, *_PROCESS) if any((v.file, v.function) == _SEND for v in s)]
    whole = route_of(visits)
    frames = [route_of(segment) for segment in segments[1:-1]]
    frames.sort(key=lambda route: len(route.files))
    frame = frames[len(frames) // 2] if frames else whole
    segment = next((s for s in segments if route_of(s) == frame), visits)
    _print_frame(segment, frame, folder, console)
    for what, route in (("one offloaded frame (median)", frame), ("the whole run, ready to stopping", whole)):
        console.print(
            f"{what}: {len(route.files)} files of edge/, {_lines(route, folder)} lines in them, "
            f"{route.openings} openings, {route.returns} returns to a file already left"
        )
    verdict = "met" if len(whole.files) <= GOAL_FILES else "MISSED"
    console.print(
        f"goal: at most {GOAL_FILES} files of edge/ in the whole run, {len(whole.files)}: {verdict}"
    )
    for file in sorted(set(whole.files) - set(frame.files)):
        functions = {visit.function for visit in visits if visit.file == file}
        console.print(f"beside that frame's: {file} ({', '.join(sorted(functions))})")


def _print_frame(segment: list[Visit], route: Route, folder: Path, console: Console) -> None:
    table = Table(title="The files of edge/ that one offloaded frame runs through, in order")
    for column in ("file", "lines", "calls", "threads", "enters by"):
        table.add_column(column)
    calls = Counter(visit.file for visit in segment)
    for file in route.files:
        mine = [visit for visit in segment if visit.file == file]
        threads = ", ".join(dict.fromkeys(visit.thread.rstrip("0123456789_-") for visit in mine))
        lines = len((folder / file).read_text(encoding="utf-8").splitlines())
        table.add_row(file, str(lines), str(calls[file]), threads, mine[0].function)
    console.print(table)


def _lines(route: Route, folder: Path) -> int:
    return sum(len((folder / file).read_text(encoding="utf-8").splitlines()) for file in route.files)
