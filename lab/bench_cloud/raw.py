"""The limit: the network in a bare loop, no server. A process of its own, told what to run line by line.

Reads `<name> <batch> <seconds>` from standard input, prints rows a second. Started once, so that its sessions
are as warm as a server's.
"""

import sys
import time
from pathlib import Path

import numpy as np

from common.model.manifest import MODEL_FILE
from common.model.session import open_session
from common.model.session_config import SessionConfig
from lab.bench_cloud.networks import NETWORKS


def main(repository: Path, threads: int) -> None:
    """Serve measurements until standard input ends."""
    config = SessionConfig(threads=threads, providers=("CPUExecutionProvider",))
    sessions = {name: open_session(repository / name / "1" / MODEL_FILE, config) for name in NETWORKS}
    for line in sys.stdin:
        name, batch, seconds = line.split()
        feed = {"INPUT0": np.repeat(NETWORKS[name].sample(), int(batch), axis=0)}
        runs, start_s = 0, time.perf_counter()
        while (now_s := time.perf_counter()) - start_s < float(seconds):
            sessions[name].run(["OUTPUT0"], feed)
            runs += 1
        print(runs * int(batch) / (now_s - start_s), flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
