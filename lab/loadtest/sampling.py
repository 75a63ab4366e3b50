"""What processes, links and the machine used, read at the borders of a window and at each tick inside it."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psutil

from lab.loadtest.power import EnergyMeter, open_energy_meter
from lab.shaper.proxy import ShapedProxy

TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """Totals since each process began; `rss` are the momentary values."""

    unix_s: float
    server_cpu_s: float
    server_rss_bytes: int
    edges_cpu_s: float
    edge_rss_bytes: int
    """The largest edge's."""
    up_bytes: int
    down_bytes: int
    energy_j: float | None
    up_mbit_per_s: float | None
    rtt_ms: float


@dataclass(slots=True)
class Sampler:
    """Watches a server (where it is ours), edges and a link, on a thread of its own."""

    server_pid: int | None
    edge_pids: Sequence[int]
    proxy: ShapedProxy
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
        server = _usage([self.server_pid] if self.server_pid else [])
        edges = _usage(self.edge_pids)
        link = self.proxy.link_now()
        traffic = self.proxy.traffic
        return Sample(
            unix_s=time.time(),
            server_cpu_s=server[0],
            server_rss_bytes=server[1],
            edges_cpu_s=edges[0],
            edge_rss_bytes=edges[1],
            up_bytes=traffic.up_bytes,
            down_bytes=traffic.down_bytes,
            energy_j=self._meter.read_j() if self._meter else None,
            up_mbit_per_s=link.up_mbit_per_s,
            rtt_ms=link.rtt_ms,
        )

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            self.samples.append(self.sample())


def between(samples: Sequence[Sample], read: Callable[[Sample], float]) -> float:
    """How far a total rose from the first sample to the last."""
    return read(samples[-1]) - read(samples[0])


def _usage(pids: Sequence[int]) -> tuple[float, int]:
    """CPU seconds of all, and resident bytes of the largest; a process that is gone counts nothing."""
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
