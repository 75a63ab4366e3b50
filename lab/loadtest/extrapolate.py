"""Extrapolates from a measured server to larger fleets, by a queueing model with stated assumptions.

One server is a queue with Poisson arrivals, general service times and as many channels as it runs batches
at once (M/G/c): the mean wait is Erlang's for M/M/c, scaled by (1 + cv2) / 2 (Allen and Cunneen; exact for
c = 1, where it is Pollaczek and Khinchine's formula). The tail of the wait is taken as exponential.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import poisson

from spillover.common.errors import SourceError
from spillover.lab.loadtest.answer.months import fixed_costs, kind_of
from spillover.lab.loadtest.answer.parts import Costs
from spillover.lab.loadtest.buyer import DAYS
from spillover.lab.loadtest.config import FleetConfig, LoadConfig
from spillover.lab.loadtest.results import Cell, Fleet, FleetCheck, FleetPoint

_NEEDED = ("server_infer_ms", "server_infer_cv2", "server_cpu_share", "sent_per_s", "up_bytes_per_frame")


@dataclass(frozen=True, slots=True)
class ServerModel:
    """One server: what a request costs in seconds of the network and of CPU, and its channels and cores."""

    infer_s: float
    infer_cv2: float
    cpu_s: float
    channels: int
    cores: int

    @property
    def limit_per_s(self) -> float:
        """Requests a second that it can answer: limited by network or CPU, whichever runs out first.

        The network's time is by the clock, so it includes the time that other processes used the cores.
        """
        return min(self.channels / self.infer_s, self.limit_most_per_s)

    @property
    def limit_most_per_s(self) -> float:
        """Requests a second if no core ever paused: by CPU seconds alone."""
        return self.cores / self.cpu_s

    def cpu_utilization(self, rate_per_s: float) -> float:
        """Share of its cores in use."""
        return rate_per_s * self.cpu_s / self.cores

    def mean_wait_s(self, rate_per_s: float) -> float:
        """Mean wait for the network; infinite when it is overrun."""
        load = rate_per_s * self.infer_s
        if load >= self.channels:
            return math.inf
        waits = _erlang_c(self.channels, load)
        return waits * self.infer_s / (self.channels - load) * (1 + self.infer_cv2) / 2

    def wait_s(self, rate_per_s: float, share: float) -> float:
        """The wait that this share of the requests does not exceed."""
        waiting = _erlang_c(self.channels, rate_per_s * self.infer_s)
        if waiting <= 1 - share:
            return 0.0
        return self.mean_wait_s(rate_per_s) / waiting * math.log(waiting / (1 - share))


def extrapolate(
    config: FleetConfig,
    cells: Sequence[Cell],
    test: LoadConfig,
    *,
    channels: int,
    cores: int,
    asked_per_s: float | None = None,
) -> Fleet:
    """Calibrate on the scenario's cell that knows a request's time best, check on its others, extrapolate.

    `asked_per_s` is what the scenario asks each edge to send. What few edges drew in a short window is off by
    chance, so fleets send what was asked; without it, what was got.

    Raises:
        SourceError: the scenario has no cell that was measured against a server of this test.
    """
    known = [c for c in cells if c.scenario == config.scenario and all(c.figure(n) for n in _NEEDED)]
    if not known:
        raise SourceError(
            f"fleet: scenario {config.scenario} has no cell with requests to a server of this test"
        )
    # A server that is busier than the fleet's may be has other times.
    calm = [cell for cell in known if _load(cell, channels, cores) <= config.utilization]
    base = min(calm or known, key=_interval)
    same = [c for c in known if (c.mode, c.link) == (base.mode, base.link) and c is not base]
    rate = _figure(base, "sent_per_s")
    server = ServerModel(
        infer_s=_figure(base, "server_infer_ms") / 1e3,
        infer_cv2=_figure(base, "server_infer_cv2"),
        cpu_s=_figure(base, "server_cpu_share") / rate,
        channels=channels,
        cores=cores,
    )
    return Fleet(
        scenario=config.scenario,
        mode=base.mode,
        service_s=server.infer_s,
        server_limit_per_s=server.limit_per_s,
        server_limit_most_per_s=server.limit_most_per_s,
        assumptions=_assumptions(base, server, config, asked_per_s),
        points=[_point(edges, base, server, config, test, asked_per_s) for edges in config.edges],
        checks=[_check(cell, server, asked_per_s) for cell in same],
    )


def _load(cell: Cell, channels: int, cores: int) -> float:
    """How busy the server was: its network or its cores, whichever was busier."""
    busy = _figure(cell, "sent_per_s") * _figure(cell, "server_infer_ms") / 1e3 / channels
    return max(busy, _figure(cell, "server_cpu_share") / cores)


def _interval(cell: Cell) -> float:
    """Of the mean time of a request, relative: the cells of a scenario have windows of one length."""
    return math.sqrt(_figure(cell, "server_infer_cv2") / _figure(cell, "sent_per_s"))


def _point(
    edges: int,
    base: Cell,
    server: ServerModel,
    config: FleetConfig,
    test: LoadConfig,
    asked_per_s: float | None,
) -> FleetPoint:
    buyer = test.buyer
    got_per_s = _figure(base, "sent_per_s") / base.edges
    each_per_s = asked_per_s or got_per_s
    rate = each_per_s * edges
    servers = math.ceil(rate / (config.utilization * server.limit_per_s))
    frames_per_s = _figure(base, "fps") * edges
    up_bytes_per_s = frames_per_s * _figure(base, "up_bytes_per_frame") * each_per_s / got_per_s
    hours = buyer.hours_a_day * DAYS
    down_bytes_per_s = (
        up_bytes_per_s * (base.figure("down_bytes_per_frame") or 0.0) / _figure(base, "up_bytes_per_frame")
    )
    rent = server.cores * buyer.server_core_hour
    if base.figure("server_gpu_s_per_1000_frames"):
        rent += buyer.gpu_hour
    sim, device = fixed_costs(kind_of(base.mode, test), test.links[base.link].share, buyer)
    return FleetPoint(
        edges=edges,
        requests_per_s=rate,
        servers=servers,
        wait_p99_ms=server.wait_s(rate / servers, 0.99) * 1e3,
        up_mbit_per_s=up_bytes_per_s * 8e-6,
        down_mbit_per_s=down_bytes_per_s * 8e-6,
        month=Costs(
            data=(up_bytes_per_s + down_bytes_per_s) * hours * 3600 / 1e9 * buyer.gigabyte,
            sim=edges * sim,
            device=edges * device,
            server=servers * rent * hours,
            power=edges * buyer.device_idle_watt * hours / 1000 * buyer.kilowatt_hour,
        ),
    )


def _check(cell: Cell, server: ServerModel, asked_per_s: float | None) -> FleetCheck:
    rate = _figure(cell, "sent_per_s")
    wait_s = server.mean_wait_s(rate)
    return FleetCheck(
        edges=cell.edges,
        requests_per_s=rate,
        measured_utilization=_figure(cell, "server_cpu_share") / server.cores,
        predicted_utilization=server.cpu_utilization(rate),
        measured_wait_ms=cell.figure("server_queue_ms") or 0.0,
        # An overrun queue has no mean; JSON has no infinity.
        predicted_wait_ms=wait_s * 1e3 if math.isfinite(wait_s) else -1.0,
        asked_per_s=asked_per_s * cell.edges if asked_per_s else None,
    )


def _assumptions(
    base: Cell, server: ServerModel, config: FleetConfig, asked_per_s: float | None
) -> list[str]:
    got_per_s = _figure(base, "sent_per_s")
    asked = f" of {asked_per_s * base.edges:,.2f} asked for; fleets send what is asked" if asked_per_s else ""
    busy_ms, cpu_ms = server.infer_s * 1e3, server.cpu_s * 1e3
    return [
        f"Calibrated at {base.edges} edges: a request keeps the network busy for {busy_ms:.1f} ms "
        f"(squared coefficient of variation {server.infer_cv2:.2f}) and costs {cpu_ms:.1f} ms of CPU. "
        f"They sent {got_per_s:,.2f} requests a second{asked}.",
        f"A server has {server.cores} cores and runs {server.channels} batch at a time. With the network's "
        f"time by the clock, other processes of the machine included, it answers {server.limit_per_s:.0f} "
        f"requests a second; by CPU time alone, if no core ever paused, {server.limit_most_per_s:.0f}. It is "
        f"between the two. The table takes the first, and keeps servers at {config.utilization:.0%} of it.",
        "Edges send independently of each other (Poisson arrivals): no storm wakes all cameras at once.",
        "Requests are spread evenly over the servers, and nothing else is shared: no uplink, no balancer.",
        "A request costs the same whatever the load: no gain from batches, no loss to caches.",
        "The wait is for the network alone.",
    ]


def _figure(cell: Cell, name: str) -> float:
    figure = cell.figure(name)
    assert figure is not None  # noqa: S101 - cells without it were left out
    return figure


def _erlang_c(channels: int, load: float) -> float:
    """Share of the arrivals that wait in M/M/c (Erlang, 1917), from the share that M/M/c/c turns away."""
    if load >= channels:
        return 1.0
    blocked = float(poisson.pmf(channels, load) / poisson.cdf(channels, load))
    return blocked / (1 - load / channels * (1 - blocked))
