"""Resident memory of a process, and the share of each library."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spillover.common.errors import SpilloverError

_POLL_S = 0.1

# The libraries of the edge daemon in the order in which it loads them.
_STEPS = ("numpy", "cv2", "msgspec", "yaml", "structlog", "click", "prometheus_client", "onnxruntime", "grpc")


@dataclass(frozen=True, slots=True)
class Rss:
    """Memory in MB (10^6 bytes): resident, its peak, and the part that is pages of files (libraries)."""

    resident_mb: float
    peak_mb: float
    files_mb: float


_SCRIPT = """
import importlib, json, sys
def rss():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
steps = {"python": rss()}
for name in sys.argv[1:]:
    before = rss()
    importlib.import_module(name)
    steps[name] = rss() - before
print(json.dumps(steps))
"""


def last_rss(process: subprocess.Popen[bytes], limit_s: float) -> Rss:
    """Watch a process until it ends; its last resident memory, from Linux's /proc.

    Raises:
        SpilloverError: the process did not end within `limit_s`.
    """
    rss = Rss(0.0, 0.0, 0.0)
    for _ in range(int(limit_s / _POLL_S)):
        rss = _read_rss(process.pid) or rss
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            continue
        return rss
    raise SpilloverError(f"process {process.pid} did not end within {limit_s:.0f} s")


def import_costs_mb(python: str) -> Mapping[str, float]:
    """Resident memory in MB (10^6 bytes) that each library of the edge adds, in a process of its own."""
    done = subprocess.run([python, "-c", _SCRIPT, *_STEPS], capture_output=True, check=True, timeout=60)
    steps: dict[str, int] = json.loads(done.stdout)
    return {name: kib * 1024 / 1e6 for name, kib in steps.items()}


def _read_rss(pid: int) -> Rss | None:
    """None when the process is gone; a process that is ending has no memory lines left."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return None
    lines = (line.split() for line in status.splitlines())
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1:] == ["kB"]}
    if "VmRSS" not in kib:
        return None
    return Rss(*(kib[key] * 1024 / 1e6 for key in ("VmRSS", "VmHWM", "RssFile")))
