"""An edge daemon as a process: started, looked at from outside, killed."""

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.support.processes import LIMIT_S, SPILLOVER, free_port


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a process."""

    own_mb: float
    """Anonymous memory; pages of libraries come and go as the kernel likes."""
    descriptors: int
    metrics: dict[str, float]

    @property
    def frames(self) -> float:
        """First results given so far."""
        name = "spillover_edge_frames_total"
        return sum(value for found, value in self.metrics.items() if found.startswith(name))

    @property
    def by_cloud(self) -> float:
        """Of those, the cloud's."""
        return self.metrics.get('spillover_edge_frames_total{ending="cloud"}', 0.0)


class Edge:
    """A daemon with `config`, its files called `name` in `folder`; it runs when this returns if `wait`."""

    def __init__(
        self,
        folder: Path,
        name: str,
        config: Mapping[str, object],
        environment: Mapping[str, str],
        *,
        wait: bool = True,
    ) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        """Of its pages."""
        self._log = folder / f"{name}.log"
        self._path = folder / f"{name}.yaml"
        self._config = {**config, "metrics_address": self.address}
        self._path.write_bytes(msgspec.yaml.encode(self._config))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*SPILLOVER, "edge", "-c", str(self._path)],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        if wait:
            wait_until(lambda: self.metrics() is not None, self._process, self._log)

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def look(self) -> Look:
        """Memory, descriptors and metrics; the process must be alive."""
        assert self.runs, f"the edge ended with {self._process.returncode}: {self.tail()}"
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        own = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        descriptors = sum(1 for _ in Path(f"/proc/{self._process.pid}/fd").iterdir())
        return Look(int(own.split()[1]) / 1024, descriptors, self.metrics() or {})

    def metrics(self) -> dict[str, float] | None:
        """What the endpoint says, by name and labels; None when it says nothing."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=5) as page:
                lines = page.read().decode().splitlines()
        except OSError:
            return None
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def reload(self, text: str | None = None, **sections: object) -> None:
        """SIGHUP, with `sections` in place of those of its start, or with `text` as the whole file."""
        changed = msgspec.yaml.encode(self._config | sections)
        self._path.write_bytes(changed if text is None else text.encode())
        self._process.send_signal(signal.SIGHUP)

    def reloads(self) -> int:
        """How often its log says that a reload ended, well or not."""
        return self._log.read_text(errors="replace").count("reloaded")

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._process.terminate()
        return self._process.wait(LIMIT_S)

    def wait(self) -> int:
        """The exit code of a daemon that ends by itself."""
        return self._process.wait(LIMIT_S)

    def kill(self) -> None:
        """Kill -9."""
        kill(self._process)

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-2000:]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll within a limit; the process must live on."""
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert process.poll() is None, (
            f"ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}"
        )
        assert time.monotonic() < end_s, "took longer than the limit"
        time.sleep(0.02)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill -9, and wait for the end."""
    process.kill()
    process.wait(LIMIT_S)
