"""One edge, one cloud, one link between them: real processes, and a proxy that breaks on command."""

import os
import random
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edge.spool.arena import intact_records
from edge.spool.record import HEADER_BYTES
from lab.check.books import Books, Verdict
from lab.check.cli import waiting_in
from lab.shaper.faulty import FaultyProxy, Mode
from tests.chaos.disk import Disk
from tests.models import colour_classifier
from tests.processes import LIMIT_S, SPILLOVER, free_port

FPS = 20
SPOOL_MB = 16.0
RESULTS_MB = 128
WAIT_LIMIT_S = 90.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the edge's process."""

    at_s: float
    boot: int
    rss_mb: float
    descriptors: int
    metrics: dict[str, float]


class Field:
    """Where faults happen. `scale` stretches how long they last."""

    def __init__(self, folder: Path, scale: float = 1.0) -> None:
        self.scale = scale
        self.folder = folder
        self.spool_disk = Disk(folder / "spool", round(2.5 * SPOOL_MB))
        self.results_disk = Disk(folder / "results", RESULTS_MB)
        self.spool = self.spool_disk.folder / "spool.dat"
        self.output = self.results_disk.folder / "run.jsonl"
        self.samples: list[Sample] = []
        self.excused: set[str] = set()
        self._boots = 0
        self._started_s = time.monotonic()
        self._paint(folder / "pictures")
        colour_classifier(folder / "cloud", name="big", gain=20.0)
        colour_classifier(folder / "edge", name="small")
        self.cloud_address = "127.0.0.1:0"
        self.start_cloud()
        self.link = FaultyProxy(self.cloud_address)
        self.metrics_address = ""
        try:
            self.start_edge()
        except BaseException:
            self.close()
            raise

    def start_cloud(self) -> None:
        """Start a server, the second time on the port of the first; returns when it answers."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        config = {
            "listen": self.cloud_address,
            "metrics": None,
            "models": {"repository": str(self.folder / "cloud")},
        }
        path = self._write("cloud.yaml", config)
        self._cloud = self._spawn("cloud", "-c", str(path), "--ready-file", str(ready))
        _wait(lambda: ready.exists() and bool(ready.read_text()), self._cloud)
        self.cloud_address = ready.read_text().strip()

    def kill_cloud(self) -> None:
        """Kill -9."""
        _kill(self._cloud)

    @contextmanager
    def cloud_frozen(self) -> Iterator[None]:
        """SIGSTOP while inside."""
        self._cloud.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._cloud.send_signal(signal.SIGCONT)

    def start_edge(
        self,
        *,
        wait: bool = True,
        spool_mb: float = SPOOL_MB,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a daemon on the spool and the output that are there; `wait` until its metrics answer."""
        self._boots += 1
        self.metrics_address = f"127.0.0.1:{free_port()}"
        config = {
            "mode": "cloud_only",
            "deadline_s": 0.4,
            "deadline_margin_s": 0.05,
            "camera": {"source": str(self.folder / "pictures"), "fps": FPS, "loop": True},
            "model": {"folder": str(self.folder / "edge" / "small" / "1"), "session": {"threads": 1}},
            "uplink": {"address": self.link.address, "late_answer_window_s": 1.0, "breaker_pause_max_s": 1.0},
            "spool": {"path": str(self.spool), "max_mb": spool_mb, "answer_timeout_s": 3.0},
            "sinks": [{"kind": "jsonl", "path": str(self.output)}],
            "metrics_address": self.metrics_address,
            "drain_timeout_s": 2.0,
        }
        path = self._write("edge.yaml", config)
        self._edge = self._spawn("edge", "-c", str(path), environment=environment)
        if wait:
            _wait(lambda: self._metrics() is not None, self._edge)

    def kill_edge(self) -> None:
        """Kill -9; what was accepted must be on the disk then."""
        _kill(self._edge)
        if self.spool.exists():  # or it was killed before it made one
            violations = self.verdict().violations
            assert not violations, violations

    def corrupt_spool(self, rng: random.Random) -> None:
        """Overwrite a stretch of a spooled record, and excuse the frames that it belongs to."""
        records = intact_records(self.spool)
        if not records:
            return
        header, start = rng.choice(records)
        end = start + HEADER_BYTES + header.body_bytes
        at = rng.randrange(start, end)
        length = min(rng.choice([1, 16, 600]), end - at)
        with self.spool.open("r+b") as file:
            file.seek(at)
            hurt = bytes(byte ^ 0xA5 for byte in file.read(length))
            file.seek(at)
            file.write(hurt)
        self.excused.add(header.key.decode())

    def heal(self) -> None:
        """Take every fault away."""
        self.link.set(Mode.PASS)

    def sample(self, *, at_peace: bool = True) -> Sample:
        """Look at the edge's process; it must be alive, and `at_peace` the cloud's too."""
        assert self._edge.poll() is None, f"the edge ended with {self._edge.returncode}: {self._tail()}"
        assert not at_peace or self._cloud.poll() is None, "the cloud ended"
        status = Path(f"/proc/{self._edge.pid}/status").read_text()
        rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        descriptors = sum(1 for _ in Path(f"/proc/{self._edge.pid}/fd").iterdir())
        metrics = self._metrics() or {}
        at_s = time.monotonic() - self._started_s
        self.samples.append(Sample(at_s, self._boots, int(rss.split()[1]) / 1024, descriptors, metrics))
        return self.samples[-1]

    def drain(self) -> None:
        """Wait until the spool is open and nothing waits in it."""
        self.wait_for("spillover_edge_spool_failing", 0.0)
        self.wait_for("spillover_edge_spool_pending", 0.0)

    def wait_for(self, metric: str, value: float) -> None:
        """Wait until a metric of the edge has this value."""
        limit_s = time.monotonic() + WAIT_LIMIT_S
        while (found := self.sample(at_peace=False).metrics.get(metric)) != value:
            assert time.monotonic() < limit_s, f"{metric} is {found}, not {value}: {self._tail()}"
            time.sleep(0.2)

    def wait_for_results(self) -> None:
        """Wait until what the edge holds back for its results is on their disk."""
        before, limit_s = self.output.stat().st_size, time.monotonic() + WAIT_LIMIT_S
        while self.output.stat().st_size == before:
            assert time.monotonic() < limit_s, f"no result for {WAIT_LIMIT_S:.0f} s: {self._tail()}"
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM to the edge; its exit code."""
        self._edge.terminate()
        return self._edge.wait(LIMIT_S)

    def close(self) -> None:
        """Leave nothing behind."""
        for process in (self._edge, self._cloud):
            _kill(process)
        self.link.close()
        for disk in (self.spool_disk, self.results_disk):
            disk.close()

    def verdict(self) -> Verdict:
        """The books of all runs so far; while no edge runs, what was accepted is looked for on the disk."""
        books = Books()
        with self.output.open("rb") as file:
            books.take(file)
        if self._edge.poll() is None:
            return books.verdict()
        return books.verdict(on_disk=waiting_in(self.spool) | self.excused)

    def _metrics(self) -> dict[str, float] | None:
        try:
            with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=5) as page:
                lines = page.read().decode().splitlines()
        except OSError:
            return None
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def _spawn(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        variables = {**os.environ, **(environment or {})}
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen([*SPILLOVER, *arguments], stdout=log, stderr=log, env=variables)

    def _write(self, name: str, config: dict[str, object]) -> Path:
        path = self.folder / name
        path.write_bytes(msgspec.yaml.encode(config))
        return path

    def _tail(self) -> str:
        return (self.folder / "edge.log").read_text(errors="replace")[-2000:]

    @staticmethod
    def _paint(folder: Path) -> None:
        folder.mkdir()
        rng = np.random.default_rng(0)
        for index in range(6):
            noise = rng.integers(0, 255, (120, 160, 3), np.uint8)
            cv2.imwrite(str(folder / f"{index}.png"), noise)


def _wait(condition, process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}: see its log"
        assert time.monotonic() < end_s, "took longer than the limit"
        time.sleep(0.02)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(LIMIT_S)
