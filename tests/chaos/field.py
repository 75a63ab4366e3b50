"""One edge, one cloud, one link between them: real processes, and a proxy that breaks on command."""

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np

from spillover.edge.spool.arena import intact_records
from spillover.edge.spool.record import BLOCK_BYTES, HEADER_BYTES
from spillover.lab.runs.check.cli import waiting_in
from spillover.lab.runs.check.frame_accounting import AuditReport, FrameAccounting
from tests.chaos.disk import Disk
from tests.chaos.edge import Edge, Look, kill, wait_until
from tests.support.faulty_link import FaultyProxy, Mode
from tests.support.models import colour_classifier
from tests.support.processes import SPILLOVER

FPS = 20
SPOOL_MB = 16.0
RESULTS_MB = 128
WAIT_LIMIT_S = 90.0
_HASTY = {"late_answer_window_s": 1.0, "breaker_pause_max_s": 1.0}
"""An uplink that finds out quickly, for faults that last seconds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the edge, and when it was."""

    at_s: float
    boot: int
    look: Look


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays: models as the configurations name them, and what the camera sees."""

    edge_model: str
    cloud_repository: str
    source: str
    mode: str = "cloud_only"


def tiny(folder: Path) -> Cast:
    """Models that cost nothing, and noise, which JPEG cannot make small: the faults have the machine."""
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        cv2.imwrite(str(pictures / f"{index}.png"), rng.integers(0, 255, (120, 160, 3), np.uint8))
    colour_classifier(folder / "cloud", name="big", gain=20.0)
    return Cast(str(colour_classifier(folder / "edge", name="small")), str(folder / "cloud"), str(pictures))


class Field:
    """Where faults happen. `scale` stretches how long they last; `uplink` is that of the edge."""

    def __init__(
        self,
        folder: Path,
        scale: float = 1.0,
        uplink: Mapping[str, object] = _HASTY,
        cast: Callable[[Path], Cast] = tiny,
    ) -> None:
        self.scale = scale
        self.folder = folder
        self.spool_disk = Disk(folder / "spool", round(2.5 * SPOOL_MB))
        self.results_disk = Disk(folder / "results", RESULTS_MB)
        self.spool = self.spool_disk.folder / "spool.dat"
        self.output = self.results_disk.folder / "run.jsonl"
        self.samples: list[Sample] = []
        self.excused: set[str] = set()
        self._uplink = uplink
        self._frames = FrameAccounting()
        self._read_bytes = 0
        self._boots = 0
        self._started_s = time.monotonic()
        self._cast = cast(folder)
        self.plain = {
            "device_id": "field",
            "mode": "edge_only",
            "camera": {"source": self._cast.source, "fps": FPS, "loop": True},
            "model": {"folder": self._cast.edge_model, "session": {"threads": 1}},
            "live_view": True,
        }
        """An edge with the same camera and model, and nothing else."""
        self.cloud_address = "127.0.0.1:0"
        with ExitStack() as closing:
            for disk in (self.spool_disk, self.results_disk):
                closing.callback(disk.close)
            self.start_cloud()
            closing.callback(self.kill_cloud)
            self.link = FaultyProxy(self.cloud_address)
            self.link.start()
            closing.callback(self.link.stop)
            self.start_edge()
            closing.callback(self._kill_last_edge)
            self._closing = closing.pop_all()

    @property
    def cloud_model(self) -> Path:
        """The one model of the server."""
        return Path(self._cast.cloud_repository) / "big" / "1"

    def start_cloud(self) -> None:
        """Start a server, the second time on the port of the first; returns when it answers."""
        self._cloud, self.cloud_address = self._started_cloud("cloud", self.cloud_address)

    @contextmanager
    def second_cloud(self) -> Iterator[str]:
        """Another server with the same models, at an address of its own, while inside."""
        process, address = self._started_cloud("second-cloud", "127.0.0.1:0")
        try:
            yield address
        finally:
            kill(process)

    def _started_cloud(self, name: str, listen: str) -> tuple[subprocess.Popen[bytes], str]:
        ready, path, log = (self.folder / f"{name}{ending}" for ending in (".ready", ".yaml", ".log"))
        ready.unlink(missing_ok=True)
        config = {
            "listen": listen,
            "metrics": None,
            "models": {"repository": self._cast.cloud_repository},
        }
        path.write_bytes(msgspec.yaml.encode(config))
        command = [*SPILLOVER, "cloud", "-c", str(path), "--ready-file", str(ready)]
        with log.open("ab") as log_file:
            process = subprocess.Popen(command, stdout=log_file, stderr=log_file)
        wait_until(lambda: ready.exists() and bool(ready.read_text()), process, log)
        return process, ready.read_text().strip()

    def kill_cloud(self) -> None:
        """Kill -9."""
        kill(self._cloud)

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
        camera: Mapping[str, object] | None = None,
        sinks: Sequence[Mapping[str, object]] = (),
        uplink: Mapping[str, object] | None = None,
    ) -> None:
        """Start a daemon on the spool and the output that are there; `wait` until its metrics answer.

        `camera` stands in place of the usual one, `sinks` are further ones, `uplink` has further keys.
        """
        self._boots += 1
        config = self._config(spool_mb, sinks, uplink) | ({"camera": camera} if camera else {})
        self.edge = Edge(self.folder, "edge", config, environment or {}, wait=wait)

    def start_second_edge(self, output: Path) -> Edge:
        """Start another daemon on the spool, and the results in `output`, while the first one runs."""
        config = self._config(SPOOL_MB) | {"sinks": [_lines(output)]}
        return Edge(self.folder, "second", config, {}, wait=False)

    def _config(
        self,
        spool_mb: float,
        sinks: Sequence[Mapping[str, object]] = (),
        uplink: Mapping[str, object] | None = None,
    ) -> dict[str, object]:
        return self.plain | {
            "mode": self._cast.mode,
            "deadline_s": 0.4,
            "deadline_margin_s": 0.05,
            "uplink": {"address": self.link.address, **self._uplink, **(uplink or {})},
            "spool": {"path": str(self.spool), "max_mb": spool_mb, "answer_timeout_s": 3.0},
            "sinks": [_lines(self.output), *sinks],
        }

    def kill_edge(self) -> None:
        """Kill -9; what was accepted must be on the disk then."""
        self.edge.kill()
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

    def duplicate_blocks(self, rng: random.Random) -> None:
        """Copy blocks of the spool over others, and excuse the frames of which a byte was overwritten."""
        records = intact_records(self.spool)
        blocks = self.spool.stat().st_size // BLOCK_BYTES
        starts = [start // BLOCK_BYTES for _, start in records]
        with self.spool.open("r+b") as file:
            for _ in range(1 + 3 * len(starts)):
                # Mostly records over others: the most of a spool that is not full is free.
                source = rng.choice(starts) if starts else rng.randrange(blocks)
                target = (
                    rng.choice(starts) + rng.randrange(3)
                    if starts and rng.random() < 0.2
                    else rng.randrange(blocks)
                )
                target = min(target, blocks - 1)
                file.seek(source * BLOCK_BYTES)
                block = file.read(BLOCK_BYTES)
                file.seek(target * BLOCK_BYTES)
                file.write(block)
                self.excused |= {
                    header.key.decode()
                    for header, start in records
                    if start < (target + 1) * BLOCK_BYTES
                    and target * BLOCK_BYTES < start + HEADER_BYTES + header.body_bytes
                }

    def heal(self) -> None:
        """Take every fault away."""
        self.link.set(Mode.PASS)

    def sample(self, *, at_peace: bool = True) -> Sample:
        """Look at the edge's process; it must be alive, and `at_peace` the cloud's too."""
        assert not at_peace or self._cloud.poll() is None, "the cloud ended"
        at_s = time.monotonic() - self._started_s
        self.samples.append(Sample(at_s, self._boots, self.edge.look()))
        return self.samples[-1]

    def drain(self) -> None:
        """Wait until the spool is open and nothing waits in it."""
        self.wait_for("spillover_edge_spool_failing", 0.0)
        self.wait_for("spillover_edge_spool_pending", 0.0)

    def wait_for(self, metric: str, value: float) -> None:
        """Wait until a metric of the edge has this value."""
        limit_s = time.monotonic() + WAIT_LIMIT_S
        while (found := self.sample(at_peace=False).look.metrics.get(metric)) != value:
            assert time.monotonic() < limit_s, f"{metric} is {found}, not {value}: {self.edge.tail()}"
            time.sleep(0.2)

    def wait_until_counted(self, metric: str) -> None:
        """Wait until a counter of the edge is no longer 0."""
        limit_s = time.monotonic() + WAIT_LIMIT_S
        while not self.sample(at_peace=False).look.metrics.get(metric):
            assert time.monotonic() < limit_s, f"{metric} is still 0: {self.edge.tail()}"
            time.sleep(0.2)

    def wait_for_frames(self, count: int) -> None:
        """Wait until the edge has given so many more first results."""
        goal, limit_s = self.edge.look().frames + count, time.monotonic() + WAIT_LIMIT_S
        while (found := self.sample(at_peace=False).look.frames) < goal:
            assert time.monotonic() < limit_s, (
                f"{found:.0f} first results, not {goal:.0f}: {self.edge.tail()}"
            )
            time.sleep(0.2)

    def wait_for_reloads(self, count: int) -> None:
        """Wait until the edge's log has told of so many reloads."""
        limit_s = time.monotonic() + WAIT_LIMIT_S
        while self.edge.reloads() < count:
            assert time.monotonic() < limit_s, f"no reload: {self.edge.tail()}"
            time.sleep(0.02)

    def rotate_results(self) -> None:
        """What logrotate does with the file of the results; returns when the edge writes a new one."""
        old = self.output.with_name("run.jsonl.1")
        self.output.rename(old)
        self.edge.reload()
        limit_s = time.monotonic() + WAIT_LIMIT_S
        while not self.output.exists():
            assert time.monotonic() < limit_s, f"no new file: {self.edge.tail()}"
            time.sleep(0.05)
        self._read_results(old)
        self._read_bytes = 0

    def wait_for_results(self) -> None:
        """Wait until what the edge holds back for its results is on their disk."""
        before, limit_s = self.output.stat().st_size, time.monotonic() + WAIT_LIMIT_S
        while self.output.stat().st_size == before:
            assert time.monotonic() < limit_s, f"no result for {WAIT_LIMIT_S:.0f} s: {self.edge.tail()}"
            time.sleep(0.05)

    def close(self) -> None:
        """Leave nothing behind."""
        self._closing.close()

    def _kill_last_edge(self) -> None:
        self.edge.kill()

    def verdict(self) -> AuditReport:
        """The books of all runs so far; while no edge runs, what was accepted is looked for on the disk."""
        self._read_results()
        if self.edge.runs:
            return self._frames.report()
        return self._frames.report(on_disk=waiting_in(self.spool) | self.excused)

    def _read_results(self, path: Path | None = None) -> None:
        """Enter the lines that are new and whole; a torn one is ended by the next run."""
        with (path or self.output).open("rb") as file:
            file.seek(self._read_bytes)
            lines = file.read().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        self._read_bytes += sum(map(len, whole))
        self._frames.add(whole)


def _lines(path: Path) -> dict[str, object]:
    return {"kind": "jsonl", "path": str(path), "rotate_mb": 0}  # each of them is checked
