"""The peak memory of a process that runs a model; run as a module it is that process."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from spillover.common.model.manifest import ModelFolder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig

ONE_THREAD = SessionConfig(threads=1, providers=("CPUExecutionProvider",))
CHILD_LIMIT_S = 120
RUNS_FOR_PEAK = 5


def peak_memory_mb(folder: ModelFolder) -> float:
    """Peak resident memory, in MB (10^6 bytes), of a fresh process that loads the model and runs it.

    Linux only (VmHWM); not a number elsewhere.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(folder.path)],
        capture_output=True,
        check=True,
        timeout=CHILD_LIMIT_S,
    )
    return float(done.stdout)


def _own_peak_mb(path: Path) -> float:
    model = Model.load(path, ONE_THREAD)
    spec = model.manifest.own_input
    tensor, _ = model.prepare(np.zeros((spec.height, spec.width, 3), np.uint8))
    for _ in range(RUNS_FOR_PEAK):
        model.run(tensor[None])
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


if __name__ == "__main__":
    sys.stdout.write(f"{_own_peak_mb(Path(sys.argv[1]))}\n")
