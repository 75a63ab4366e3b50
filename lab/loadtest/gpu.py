"""How long the GPUs of this machine were busy, as the driver's own tool counts it."""

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator

TICK_S = 0.5
_COMMAND = (
    "nvidia-smi",
    "--query-gpu=utilization.gpu",
    "--format=csv,noheader,nounits",
    f"--loop-ms={TICK_S * 1000:.0f}",
)


class GpuMeter:
    """Adds up the utilisation of all GPUs: 1 is one GPU busy for one second.

    The driver's figure is the share of the last interval in which any kernel ran, so a GPU that is hardly
    filled counts as busy. Other processes' work on the same GPUs is in it.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._busy_s = 0.0
        self._thread = threading.Thread(target=self._read, name="gpu-meter", daemon=True)
        self._thread.start()

    def read_s(self) -> float:
        """Busy GPU seconds since the meter was opened."""
        return self._busy_s

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - asked for by `open_gpu_meter`
        for line in self._process.stdout:
            if line.strip().isdigit():  # `[N/A]` where a GPU does not say
                self._busy_s += int(line) / 100 * TICK_S


@contextlib.contextmanager
def open_gpu_meter(command: tuple[str, ...] = _COMMAND) -> Iterator[GpuMeter | None]:
    """A meter while the block lasts; None where there is no NVIDIA driver."""
    if shutil.which(command[0]) is None:
        yield None
        return
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    ) as process:
        try:
            yield GpuMeter(process)
        finally:
            process.kill()
