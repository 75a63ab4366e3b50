"""The limit: the network in a bare loop, no server. A process of its own, told what to run line by line.

Reads `<name> <batch> <seconds>` from standard input, prints rows a second. Started once, so that its sessions
are as warm as a server's.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.cloud.engine import Device, Engine
from benchmarks.cloud.networks import NETWORKS
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.types import FloatArray

Run = Callable[[FloatArray], object]


def main(repository: Path, engine: Engine) -> None:
    """Serve measurements until standard input ends."""
    runs_of = {name: _runner(repository / name / "1" / MODEL_FILE, engine) for name in NETWORKS}
    for line in sys.stdin:
        name, batch, seconds = line.split()
        rows, run = np.repeat(NETWORKS[name].sample(), int(batch), axis=0), runs_of[name]
        runs, start_s = 0, time.perf_counter()
        while (now_s := time.perf_counter()) - start_s < float(seconds):
            run(rows)
            runs += 1
        print(runs * int(batch) / (now_s - start_s), flush=True)  # noqa: T201 - its answer


def _runner(path: Path, engine: Engine) -> Run:
    """On CUDA with the copies there and back, as the server does it."""
    runtime = open_runtime(path, engine.session())
    return lambda rows: runtime.run([rows])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Engine(int(sys.argv[2]), Device(sys.argv[3])))
