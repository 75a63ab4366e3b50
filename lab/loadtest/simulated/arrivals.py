"""When each simulated edge's frames are due and which of them are sent, decided before the run begins."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spillover.lab.loadtest.simulated.job import Job

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """One entry a frame, in the order they are due; seconds count from the beginning of the warm-up."""

    due_s: Floats
    edge: npt.NDArray[np.int32]
    entry: npt.NDArray[np.int32]
    """The entry of the log that is replayed."""
    wanted: npt.NDArray[np.bool_]
    local_s: Floats
    departs_s: Floats
    """When the payload is ready, for frames that are wanted."""
    payload: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.due_s)


def arrivals_of(job: Job, edges: range) -> Arrivals:
    """The frames of some of a job's edges, over warm-up and window.

    Each edge has its own phase and starting point in the log, both drawn by its number, as unsynchronised
    cameras of different scenes have.
    """
    log = job.log
    wanted, local_s = np.array([f.wanted for f in log]), np.array([f.local_s for f in log])
    encode_s, payload = np.array([f.encode_s for f in log]), np.array([f.payload for f in log], np.int32)
    frames = int(np.ceil((job.warm_up_s + job.window_s) * job.fps)) + 1
    due, edge, entry, drawn = [], [], [], []
    for number in edges:
        draw = np.random.default_rng((job.seed, number))
        due.append((np.arange(frames) + draw.random()) / job.fps)
        edge.append(np.full(frames, number, np.int32))
        entry.append(((draw.integers(len(log)) + np.arange(frames)) % len(log)).astype(np.int32))
        drawn.append(draw.random(frames))
    due_s, entries = np.concatenate(due), np.concatenate(entry)
    order = np.argsort(due_s, kind="stable")
    due_s, entries = due_s[order], entries[order]
    if job.offload_share is None:
        chosen = wanted[entries]
    else:
        chosen = np.concatenate(drawn)[order] < job.offload_share
    return Arrivals(
        due_s=due_s,
        edge=np.concatenate(edge)[order],
        entry=entries,
        wanted=chosen,
        local_s=local_s[entries],
        departs_s=due_s + local_s[entries] + encode_s[entries],
        payload=payload[entries],
    )
