"""What a process holds in memory, and which library costs how much of it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from common.errors import SpilloverError

_POLL_S = 0.1

# What the edge daemon loads, in the order it loads it; each step prints the resident memory after it.
_STEPS = ("numpy", "cv2", "msgspec", "yaml", "structlog", "click", "prometheus_client", "onnxruntime", "grpc")
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


def peak_rss_mb(process: subprocess.Popen[bytes], limit_s: float) -> float:
    """Watch a process until it ends; its highest resident memory in MB (10^6 bytes), from Linux's VmHWM.

    `wait4` would give the parent's peak where that is higher, so the figure is read while the process lives.

    Raises:
        SpilloverError: the process did not end within `limit_s`.
    """
    peak_kib = 0
    for _ in range(int(limit_s / _POLL_S)):
        peak_kib = max(peak_kib, _high_water_kib(process.pid))
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            continue
        return peak_kib * 1024 / 1e6
    raise SpilloverError(f"process {process.pid} did not end within {limit_s:.0f} s")


def import_costs_mb() -> Mapping[str, float]:
    """Resident memory in MB (10^6 bytes) that each library of the edge adds, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *_STEPS], capture_output=True, check=True, timeout=60
    )
    steps: dict[str, int] = json.loads(done.stdout)
    return {name: kib * 1024 / 1e6 for name, kib in steps.items()}


def _high_water_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
