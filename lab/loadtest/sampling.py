"""Samples of what processes, links and the machine use, at the borders of a window and at ticks inside it."""

import bisect
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from spillover.lab.loadtest.links import LinkMeter
from spillover.lab.loadtest.meters import EnergyMeter, open_energy_meter
from spillover.lab.loadtest.server import Server
from spillover.lab.shaper.link import Link
from spillover.lab.shaper.proxy import Traffic

TICK_S = 0.5
_TOTALS = ("server_cpu_s", "server_gpu_s", "edges_cpu_s", "up_bytes", "down_bytes", "energy_j")


@dataclass(frozen=True, slots=True)
class Sample:
    """Totals since each process began; `rss`, rate and round trip are momentary values."""

    unix_s: float
    server_cpu_s: float
    server_rss_bytes: int
    server_gpu_s: float | None
    edges_cpu_s: float
    edge_rss_bytes: int
    """The largest edge's."""
    up_bytes: float
    down_bytes: float
    energy_j: float | None
    up_mbit_per_s: float | None
    rtt_ms: float


@dataclass(slots=True)
class Sampler:
    """Samples a server (a process of this test), edges and a link, on a thread of its own."""

    server: Server
    edge_pids: Sequence[int]
    link: LinkMeter | None
    """None when the link is shaped on another machine."""
    samples: list[Sample] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _meter: EnergyMeter | None = field(default_factory=open_energy_meter)

    def __enter__(self) -> "Sampler":
        self.samples.append(self.sample())
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10 * TICK_S)
        self.samples.append(self.sample())

    def sample(self) -> Sample:
        """Read everything once."""
        server_cpu_s, server_rss_bytes = _usage([self.server.pid] if self.server.pid else [])
        edges_cpu_s, edge_rss_bytes = _usage(self.edge_pids)
        link = self.link.link_now() if self.link else Link()
        traffic = self.link.traffic if self.link else Traffic()
        return Sample(
            unix_s=time.time(),
            server_cpu_s=server_cpu_s,
            server_rss_bytes=server_rss_bytes,
            server_gpu_s=self.server.gpu.read_s() if self.server.gpu else None,
            edges_cpu_s=edges_cpu_s,
            edge_rss_bytes=edge_rss_bytes,
            up_bytes=traffic.up_bytes,
            down_bytes=traffic.down_bytes,
            energy_j=self._meter.read_j() if self._meter else None,
            up_mbit_per_s=link.up_mbit_per_s,
            rtt_ms=link.rtt_ms,
        )

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            self.samples.append(self.sample())


def clipped(samples: Sequence[Sample], begin_s: float, end_s: float) -> list[Sample]:
    """The samples inside the window, with one at each of its borders: totals there are interpolated."""
    inside = [s for s in samples if begin_s < s.unix_s < end_s]
    return [_at(samples, begin_s), *inside, _at(samples, end_s)]


def _at(samples: Sequence[Sample], unix_s: float) -> Sample:
    index = min(max(1, bisect.bisect_left([s.unix_s for s in samples], unix_s)), len(samples) - 1)
    before, after = samples[index - 1], samples[index]
    share = (unix_s - before.unix_s) / max(after.unix_s - before.unix_s, 1e-9)
    share = min(max(share, 0.0), 1.0)

    def total(name: str) -> Any:  # noqa: ANN401 - None where it is not measured, else a float
        low, high = getattr(before, name), getattr(after, name)
        return None if low is None or high is None else low + share * (high - low)

    return replace(before, unix_s=unix_s, **{name: total(name) for name in _TOTALS})


def between(samples: Sequence[Sample], read: Callable[[Sample], float]) -> float:
    """The rise of a total from the first sample to the last."""
    return read(samples[-1]) - read(samples[0])


def _usage(pids: Sequence[int]) -> tuple[float, int]:
    """CPU seconds of all, and resident bytes of the largest; a process that has ended counts nothing."""
    cpu_s, rss = 0.0, 0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                cpu_s += times.user + times.system
                rss = max(rss, process.memory_info().rss)
        except psutil.Error:
            continue
    return cpu_s, rss
