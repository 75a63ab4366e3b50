"""What the checks share: the configuration, a daemon that runs with it, what earlier checks found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spillover.common.model.pictures import VisionModel
from spillover.edge.config import EdgeConfig
from spillover.edge.doctor.findings import Finding
from spillover.edge.status.values import Status


@dataclass(slots=True)
class Case:
    """One configuration under examination."""

    config: EdgeConfig
    config_path: Path
    running: Status | None = None
    """The status of the daemon that runs with it; None without one, or where nobody asked."""
    namesake: Status | None = None
    """The status of a daemon with the same `device_id` and another file."""
    root: Path = Path("/")
    """Stands for the root of the file system where figures of the kernel are read."""
    model: VisionModel | None = None
    """The local model, once it is loaded."""
    camera_fps: dict[str, float] = field(default_factory=dict)
    """What each camera gives, by its name, once it was measured."""


Look = Callable[[Case], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name in the table, what it does, and how long it may take in seconds."""

    name: str
    look: Look
    limit_s: float = 10.0
