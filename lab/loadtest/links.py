"""The links of load.yaml: how they change over time, and how real edges reach the server over them."""

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from spillover.common.errors import SpilloverError
from spillover.lab.loadtest.config import LinkConfig, Shaper
from spillover.lab.pairs.replay.trace import MODELS, LinkTrace, model_trace, read_trace
from spillover.lab.shaper.kernel import fits, kernel_link, why_not
from spillover.lab.shaper.link import Link, Schedule, constant
from spillover.lab.shaper.proxy import ShapedProxy, Traffic, shaped

_GOLDEN = (5**0.5 - 1) / 2


def schedule_of(config: LinkConfig, repeat: int = 0) -> Schedule:
    """The link over time; a trace is the name of a modelled one, or a CSV file.

    A modelled trace is longer than a run, and its beginning is like no other part: each repeat begins at
    another place, the same in every test. A CSV is played from its beginning.

    Raises:
        SourceError: the trace's file cannot be read.
    """
    if not config.trace:
        return constant(config.constant())
    if config.trace in MODELS:
        schedule = schedule_of_trace(model_trace(config.trace))
        return replace(schedule, begin_s=_place(config.trace, repeat) * schedule.period_s)
    return schedule_of_trace(read_trace(Path(config.trace).expanduser()))


def _place(trace: str, repeat: int) -> float:
    """Where in a trace a repeat begins, from 0 to 1: drawn for the trace, then steps that spread evenly."""
    first = np.random.default_rng(zlib.crc32(trace.encode())).random()
    return float((first + repeat * _GOLDEN) % 1)


def schedule_of_trace(trace: LinkTrace) -> Schedule:
    """A trace as a schedule; a trace has one rate, which holds for both directions."""
    *steps, end = trace.steps

    def link(rate_bytes_per_s: float, rtt_s: float) -> Link:
        mbit_per_s = rate_bytes_per_s * 8e-6
        return Link(rtt_ms=rtt_s * 1e3, up_mbit_per_s=mbit_per_s, down_mbit_per_s=mbit_per_s)

    return Schedule(
        starts_s=tuple(step.at_s for step in steps),
        links=tuple(link(step.rate_bytes_per_s, step.rtt_s) for step in steps),
        period_s=end.at_s,
    )


class LinkMeter(Protocol):
    """The traffic and state of the links of a run: `lab.shaper.proxy.ShapedProxy` is one."""

    @property
    def traffic(self) -> Traffic:
        """Bytes and connections so far, of all edges together."""
        ...

    @property
    def started_s(self) -> float:
        """When its schedule began, by `time.monotonic`."""
        ...

    def link_now(self) -> Link:
        """The link as it is at this moment."""
        ...


@dataclass(frozen=True, slots=True)
class Route:
    """One edge's route to the server: the address that it calls, and the prefix of its command."""

    address: str
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routes:
    """One route an edge, and their meter."""

    by_edge: Sequence[Route]
    meter: LinkMeter


@dataclass(frozen=True, slots=True)
class _KernelMeter:
    """Sums over the proxies at the near ends, which add the delay; the kernel limits the rates."""

    link: Link
    proxies: Sequence[ShapedProxy]

    @property
    def started_s(self) -> float:
        """Of the first one; the link never changes."""
        return self.proxies[0].started_s

    @property
    def traffic(self) -> Traffic:
        """The sum."""
        return Traffic(
            sum(proxy.traffic.up_bytes for proxy in self.proxies),
            sum(proxy.traffic.down_bytes for proxy in self.proxies),
            sum(proxy.traffic.connections for proxy in self.proxies),
        )

    def link_now(self) -> Link:
        """The one constant link."""
        return self.link


@contextlib.contextmanager
def routes_to(
    server: str, schedule: Schedule, edges: int, *, share: int = 1, kernel: bool
) -> Iterator[Routes]:
    """A route for each of `edges` edges while the block lasts; `share` of them use one link.

    Raises:
        SpilloverError: the kernel, or the proxy, cannot.
    """
    links = links_of(edges, share)
    with contextlib.ExitStack() as stack:
        if not kernel:
            proxy = stack.enter_context(shaped(server, schedule, links))
            yield Routes([Route(proxy.addresses[edge // share]) for edge in range(edges)], proxy)
            return
        link = schedule.links[0]
        delay = constant(Link(rtt_ms=link.rtt_ms))
        routes, proxies = [], []
        for _ in range(links):
            near = stack.enter_context(kernel_link(link))
            proxies.append(stack.enter_context(ShapedProxy(server, delay, near.near_host)))
            routes.append(Route(proxies[-1].address, near.prefix))
        yield Routes([routes[edge // share] for edge in range(edges)], _KernelMeter(link, proxies))


def links_of(edges: int, share: int) -> int:
    """How many links so many edges have, of which `share` use one; the last may have fewer."""
    return -(-edges // share)


def by_kernel(shaper: Shaper, schedule: Schedule) -> tuple[bool, str]:
    """Whether the kernel paces a link, and a sentence about it for the report.

    Raises:
        SpilloverError: it must, and cannot.
    """
    if shaper is Shaper.USER:
        return False, ""
    obstacle = why_not() if fits(schedule) else "the kernel paces only constant links"
    if obstacle and shaper is Shaper.KERNEL:
        raise SpilloverError(f"shaper: kernel: {obstacle}")
    if obstacle:
        return False, f"paced in user space, not by the kernel: {obstacle}"
    return True, "real edges' rates are paced by the kernel (a namespace each, tbf), the delay in user space"
