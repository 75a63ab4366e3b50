"""A camera of 30 frames a second before the daemon: drops, processor time, and latency stage by stage.

Three runs over the same clip and link, each an edge daemon beside one cloud process: every frame to the cloud
(`cloud_only`), the hybrid at the full rate, and the hybrid at the scene's.
"""

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from spillover.common.errors import SourceError
from spillover.common.types import AnsweredBy
from spillover.edge.camera.frame_rate import Range
from spillover.lab.daemons import cloud_running, run_edge
from spillover.lab.files import merged
from spillover.lab.runs.check.frame_accounting import FrameAccounting
from spillover.lab.shaper.link import Link, Schedule
from spillover.lab.shaper.proxy import shaped

WIDTH, HEIGHT, FPS = 640, 480, 30.0
LINK = Link(rtt_ms=60.0, up_mbit_per_s=10.0, down_mbit_per_s=20.0)
"""A usual mobile link."""
SEND_SHARE = 0.02
_STAGES = ("capture_s", "queue_s", "preprocess_s", "infer_s", "decode_s", "total_s")
_DEADLINE_S = 1.0
_SKIP_S = 2.0
"""At the beginning, in which connections are made."""
_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True, eq=False)
class CameraRun:
    """One run, without its first two seconds."""

    name: str
    captured: int
    dropped: int
    looks: int
    """Frames that the edge's model looked at."""
    cpu_ms: float
    """Processor time of the daemon for each second of the camera."""
    sent: int
    """Frames of which something was sent."""
    payload_bytes: int
    """Of all of them."""
    wire_bytes: int
    """From edge to cloud, headers of HTTP/2 included."""
    first_ms: tuple[float, float]
    """From capture to the first result, p50 and p99."""
    cloud_ms: tuple[float, float] | None
    """The same of frames whose first result is the cloud's; None where there is none."""
    stages_ms: Mapping[str, tuple[float, float]]
    """p50 and p99 of each stage of the edge."""
    is_balanced: bool
    """Whether `lab check` finds every frame's ending."""


def write_clip(source: Path, out: Path, frames: int) -> Path:
    """The first frames of a video as 640x480 at 30 frames a second. Raises SourceError."""
    path, capture = out / "street30.mp4", cv2.VideoCapture(str(source))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    for _ in range(frames):
        there, image = capture.read()
        if there:
            writer.write(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
    capture.release()
    writer.release()
    if not path.is_file():
        raise SourceError(f"{source}: cannot be read, or {path} cannot be written")
    return path


def run_cameras(edge: Path, cloud: Path, clip: Path, within: Range, out: Path) -> list[CameraRun]:
    """The three runs. Raises SpilloverError where a process fails."""
    scene = {"camera": {"fps": {"min": within.least, "max": within.most}}}
    hybrid = {"mode": "hybrid", "policy": {"send_share": SEND_SHARE}}
    ways: dict[str, Mapping[str, Any]] = {
        "cloud_only": {"mode": "cloud_only"},
        "hybrid, full rate": hybrid,
        "hybrid, the scene's rate": merged(hybrid, scene),
    }
    models = {"repository": str(cloud.parents[1]), "load": [cloud.parent.name]}
    with cloud_running({"models": models}, out) as server:
        return [
            _run(name, merged(_config(edge, clip), way), server.address, out) for name, way in ways.items()
        ]


def _config(edge: Path, clip: Path) -> dict[str, Any]:
    return {
        "device_id": "bench",
        "deadline_s": _DEADLINE_S,
        "camera": {"source": str(clip)},
        "model": {"folder": str(edge), "session": {"threads": 1}},
    }


def _run(name: str, config: Mapping[str, Any], server: str, out: Path) -> CameraRun:
    file = "edge-" + name.replace(", ", "-").replace(" ", "-").replace("'", "")
    with shaped(server, Schedule((0.0,), (LINK,))) as proxy:
        config = merged(config, {"uplink": {"address": proxy.address}})
        before = _child_cpu_s()
        records = run_edge(config, out, file, limit_s=_LIMIT_S)
        cpu_s = _child_cpu_s() - before
        wire_bytes = proxy.traffic.up_bytes
    books = FrameAccounting()
    with (out / f"{file}.jsonl").open("rb") as lines:
        books.add(lines)
    report = books.report()
    first = [record for record in records if not record.revision]
    begin_s = min(record.captured_unix_s for record in first)
    settled = [record for record in first if record.captured_unix_s - begin_s >= _SKIP_S]
    length_s = max(record.captured_unix_s for record in first) - begin_s
    by_cloud = [one.timings.total_s for one in settled if one.answered_by == AnsweredBy.CLOUD.value]
    return CameraRun(
        name=name,
        captured=report.frames,
        dropped=report.endings.get("dropped", 0),
        looks=sum(record.timings.infer_s > 0 for record in first),
        cpu_ms=cpu_s / length_s * 1e3,
        sent=sum(record.payload_bytes > 0 for record in first),
        payload_bytes=sum(record.payload_bytes for record in first),
        wire_bytes=wire_bytes,
        first_ms=_percentiles([record.timings.total_s for record in settled]),
        cloud_ms=_percentiles(by_cloud) if by_cloud else None,
        stages_ms={
            stage: _percentiles([getattr(record.timings, stage) for record in settled]) for stage in _STAGES
        },
        is_balanced=not report.violations,
    )


def _child_cpu_s() -> float:
    """Processor time of the processes that this one has waited for: the daemon, and not yet the server."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return float(p50), float(p99)
