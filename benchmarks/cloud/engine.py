"""What ONNX Runtime computes on in a run of the benchmark: the same for every contender."""

import enum
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from spillover.common.model.session_config import SessionConfig

_LISTING_S = 60.0
_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


class Device(enum.Enum):
    """The processor, or the first CUDA device, copies there and back within each request."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class Engine:
    """ONNX Runtime's threads (0: all cores) and its device."""

    threads: int
    device: Device = Device.CPU

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers by preference."""
        return (_CUDA, _CPU) if self.device is Device.CUDA else (_CPU,)

    @property
    def requirement(self) -> str:
        """The package for environments of other servers."""
        return "onnxruntime-gpu[cuda,cudnn]>=1.23" if self.device is Device.CUDA else "onnxruntime>=1.23"

    def environment(self, name: str) -> str:
        """The environment of another server for this device."""
        return name if self.device is Device.CPU else f"{name}-{self.device.value}"

    @property
    def tolerance(self) -> float:
        """How far answers may be from those of the processor, as a share; CUDA multiplies in TF32."""
        return 1e-2 if self.device is Device.CUDA else 1e-3

    def session(self) -> SessionConfig:
        """For sessions of this process."""
        return SessionConfig(threads=self.threads, providers=self.providers)


def why_no_cuda() -> str:
    """Why nothing can be run on CUDA here; empty when it can."""
    from spillover.common.model.runtimes.onnxruntime import available_providers

    if _CUDA not in available_providers():
        return _why_no_provider()
    return "" if _runs_on_gpu() else "onnxruntime does not use it: its CUDA or cuDNN libraries do not load"


def _why_no_provider() -> str:
    listed = shutil.which("nvidia-smi") and subprocess.run(
        ["nvidia-smi", "-L"], capture_output=True, timeout=_LISTING_S, check=False
    )
    if not listed or listed.returncode:
        return "this machine has no CUDA device (nvidia-smi finds none)"
    return "this onnxruntime has no CUDA; `make bench-gpu` installs one that has"


def _runs_on_gpu() -> bool:
    from benchmarks.cloud.networks import NETWORKS, write_networks
    from spillover.common.model.manifest import MODEL_FILE
    from spillover.common.model.runtimes.base import Device as Kind
    from spillover.common.model.runtimes.onnxruntime import open_runtime

    spec = NETWORKS["identity"]
    with tempfile.TemporaryDirectory(prefix="bench-cloud-") as folder:
        write_networks(Path(folder), [spec])
        runtime = open_runtime(Path(folder) / spec.name / "1" / MODEL_FILE, Engine(1, Device.CUDA).session())
    return runtime.device is Kind.GPU
