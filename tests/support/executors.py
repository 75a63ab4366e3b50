"""Executors for tests: one without any network, one around a real network, both held at a gate on request."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spillover.cloud.executors.base import Executor, NetworkSpecs
from spillover.cloud.executors.latency import LatencyModel
from spillover.cloud.executors.local import LocalExecutor
from spillover.cloud.models.loader import LoadSpec, OpenedModel
from spillover.cloud.models.repository import Entry
from spillover.common.errors import ModelError
from spillover.common.model.manifest import MODEL_FILE
from spillover.common.model.runtimes.base import Device, TensorSpec
from spillover.common.model.runtimes.onnxruntime import CPU, open_runtime
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import ModelId, Tensor

ONE_THREAD = SessionConfig(threads=1, providers=(CPU,))
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run: on which thread (its ident), and the shape of the first input."""

    thread: int
    shape: tuple[int, ...]


class ToyExecutor:
    """OUTPUT0 is twice INPUT0, in Python. Runs wait while `gate` is cleared; `reached` says that one does."""

    device = Device.CPU
    platform = "toy_python"

    def __init__(self, shape: tuple[int, ...] = (-1, 4)) -> None:
        dtype = np.dtype(np.float32)
        self.specs = NetworkSpecs.of(
            (TensorSpec("INPUT0", dtype, shape),), (TensorSpec("OUTPUT0", dtype, shape),)
        )
        self.latency = LatencyModel()
        self.gate, self.reached = threading.Event(), threading.Event()
        self.gate.set()
        self.runs: list[Run] = []
        self.stopped = False

    def run_rows(self, rows: int) -> int:
        """Nothing is filled up."""
        return rows

    def run(self, batch: Sequence[Tensor]) -> list[Tensor]:
        """Twice the input; a row of -1 is an error, as a bad index would be."""
        self.reached.set()
        if not self.gate.wait(WAIT_S):
            raise ModelError("the gate stayed shut")
        self.runs.append(Run(threading.get_ident(), batch[0].shape))
        values = batch[0].astype(np.float32)
        if (values == -1).any():
            raise ModelError("a row of -1")
        return [2 * values]

    def stop(self, deadline_s: float) -> bool:
        """Note that it was called."""
        del deadline_s
        self.stopped = True
        return True


def known_to_be_quick(executor: ToyExecutor) -> ToyExecutor:
    """As after a warm-up of a network whose runs take 10 us a row."""
    executor.latency.learn(1, 1e-5)
    executor.latency.learn(2, 2e-5)
    return executor


class Serving:
    """An `OpenModel` that gives each model of a repository the executor of its name."""

    def __init__(self, **executors: Executor) -> None:
        self._executors = executors

    def __call__(self, entry: Entry, load_spec: LoadSpec) -> OpenedModel:
        """Open nothing: the files are not read."""
        del load_spec
        return OpenedModel(self._executors[entry.model_id.name])


def named_repository(root: Path, *names: str) -> Path:
    """A repository of version 1 of these models, whose files say nothing."""
    for name in names:
        (root / name / "1").mkdir(parents=True)
        (root / name / "1" / MODEL_FILE).write_bytes(b"")
    return root


def local_executor(folder: Path) -> LocalExecutor:
    """The real network in a model folder, on one thread."""
    return LocalExecutor(ModelId("n", "1"), open_runtime(folder / MODEL_FILE, ONE_THREAD))
