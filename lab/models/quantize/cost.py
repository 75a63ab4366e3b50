"""Milliseconds a picture on this device, and the memory of a process that runs the model."""

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spillover.common.model.manifest import ModelFolder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import FloatArray

ONE_THREAD = SessionConfig(threads=1, providers=("CPUExecutionProvider",))
CHILD_LIMIT_S = 120
RUNS_FOR_PEAK = 5


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one inference at one thread, both models in turn within each round."""

    float_ms: float
    int8_ms: float
    speedup: float
    """Median over the rounds of float time / INT8 time: a disturbance of the machine hits both alike."""


def interleaved_times(float_model: Model, int8_model: Model, batch: FloatArray, rounds: int) -> Times:
    """Time both models on the same input (1, ...), alternating which goes first."""
    pairs = []
    for index in range(rounds):
        if index % 2:
            int8_s, float_s = _seconds(int8_model, batch), _seconds(float_model, batch)
        else:
            float_s, int8_s = _seconds(float_model, batch), _seconds(int8_model, batch)
        pairs.append((float_s, int8_s))
    return Times(
        float_ms=1e3 * statistics.median(f for f, _ in pairs),
        int8_ms=1e3 * statistics.median(i for _, i in pairs),
        speedup=statistics.median(f / i for f, i in pairs),
    )


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


def _seconds(model: Model, batch: FloatArray) -> float:
    start = time.perf_counter()
    model.run(batch)
    return time.perf_counter() - start


def _own_peak_mb(path: Path) -> float:
    model = Model.load(path, ONE_THREAD)
    spec = model.manifest.input
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
