"""The ways of one run's real edges to the server: one link each, paced in user space or by the kernel."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from spillover.common.errors import SpilloverError
from spillover.lab.loadtest.config import Shaper
from spillover.lab.shaper.kernel import fits, kernel_link, why_not
from spillover.lab.shaper.link import Link, Schedule, constant
from spillover.lab.shaper.proxy import ShapedProxy, Traffic, shaped


class Meter(Protocol):
    """What is to be seen of links: `lab.shaper.proxy.ShapedProxy` is one."""

    @property
    def traffic(self) -> Traffic:
        """What has passed, all edges together."""
        ...

    def link_now(self) -> Link:
        """What holds now."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """One edge's way: the address that it calls, and what its command begins with."""

    address: str
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ways:
    """All of them."""

    each: Sequence[Way]
    meter: Meter


@dataclass(frozen=True, slots=True)
class _KernelMeter:
    """The proxies at the near ends add the delay and count; the rates are the kernel's."""

    link: Link
    proxies: Sequence[ShapedProxy]

    @property
    def traffic(self) -> Traffic:
        """The sum."""
        return Traffic(
            sum(proxy.traffic.up_bytes for proxy in self.proxies),
            sum(proxy.traffic.down_bytes for proxy in self.proxies),
            sum(proxy.traffic.connections for proxy in self.proxies),
        )

    def link_now(self) -> Link:
        """It never changes."""
        return self.link


@contextlib.contextmanager
def ways_to(server: str, schedule: Schedule, edges: int, *, kernel: bool) -> Iterator[Ways]:
    """A way for each of so many edges while the block lasts. Raises SpilloverError."""
    with contextlib.ExitStack() as stack:
        if not kernel:
            proxy = stack.enter_context(shaped(server, schedule))
            yield Ways([Way(proxy.address)] * edges, proxy)
            return
        link = schedule.links[0]
        delay = constant(Link(rtt_ms=link.rtt_ms))
        ways, proxies = [], []
        for _ in range(edges):
            near = stack.enter_context(kernel_link(link))
            proxy = ShapedProxy(server, delay, near.near_host)
            proxy.start()
            stack.callback(proxy.stop)
            ways.append(Way(proxy.address, near.prefix))
            proxies.append(proxy)
        yield Ways(ways, _KernelMeter(link, proxies))


def by_kernel(shaper: Shaper, schedule: Schedule) -> tuple[bool, str]:
    """Whether the kernel paces a link, and a sentence that says so for the report.

    Raises:
        SpilloverError: it must, and cannot.
    """
    if shaper is Shaper.USER:
        return False, ""
    obstacle = why_not() if fits(schedule) else "the kernel paces only links that stay as they are"
    if obstacle and shaper is Shaper.KERNEL:
        raise SpilloverError(f"shaper: kernel: {obstacle}")
    if obstacle:
        return False, f"paced in user space, not by the kernel: {obstacle}"
    return True, "real edges' rates are paced by the kernel (a namespace each, tbf), the delay in user space"
