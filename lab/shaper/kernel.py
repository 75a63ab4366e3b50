"""A link that the kernel paces: a network namespace, joined to this machine by veth with `tbf` at both ends.

Processes in the namespace reach this machine alone, by TCP over the pair, with the kernel's own queue, losses
and congestion control. It needs root, `ip` and `tc` (Debian: iproute2), and a kernel with tbf. Addresses are
of 198.18.0.0/15, which RFC 2544 sets aside for benchmarks.
"""

import contextlib
import itertools
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from spillover.common.errors import SpilloverError
from spillover.lab.shaper.link import Link, Schedule

_COMMAND_LIMIT_S = 10.0
_QUEUE_MS = 400
"""How long a byte may wait at the end of the link before it is dropped: the buffer of a modem."""
_LINKS_A_PROCESS = 64
_NAMESPACES, _DEVICES = Path("/run/netns"), Path("/sys/class/net")
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class KernelLink:
    """One link. `prefix` begins a command for its far end; `near_host` is this end's address."""

    prefix: tuple[str, ...]
    near_host: str


@contextlib.contextmanager
def kernel_link(link: Link) -> Iterator[KernelLink]:
    """A link of that rate each way, without delay, while the block lasts.

    Raises:
        SpilloverError: the kernel, the tools or the rights for it are missing; the text says which.
    """
    number = os.getpid() * _LINKS_A_PROCESS + next(_numbers) % _LINKS_A_PROCESS
    name, near, far = f"spillover-{number}", f"spa{number:x}", f"spb{number:x}"
    subnet = f"198.{18 + number // 16384 % 2}.{number // 64 % 256}"
    near_host, far_host = (f"{subnet}.{number % 64 * 4 + host}" for host in (1, 2))
    with contextlib.ExitStack() as stack:
        _run("ip", "netns", "add", name)
        stack.callback(_run, "ip", "netns", "del", name)
        _run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _set_up([], near, near_host, link.down_bytes_per_s)
        _set_up(["-n", name], far, far_host, link.up_bytes_per_s)
        yield KernelLink(("ip", "netns", "exec", name), near_host)


def why_not() -> str:
    """Why this machine has no kernel links; empty where it has them."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "it needs root"
    if missing := [tool for tool in ("ip", "tc") if shutil.which(tool) is None]:
        return f"{' and '.join(missing)} of iproute2 are not installed"
    try:
        with kernel_link(Link(up_mbit_per_s=1, down_mbit_per_s=1)):
            return ""
    except SpilloverError as error:
        return str(error)


def clear_links() -> None:
    """Remove the links of processes that are gone: their namespaces, and near ends without one."""
    for name in _names(_NAMESPACES, "spillover-"):
        if name.isdigit() and _is_orphan(int(name)):
            with contextlib.suppress(SpilloverError):
                _run("ip", "netns", "del", f"spillover-{name}")
    for name in _names(_DEVICES, "spa"):  # that of a namespace which was never made goes with no other
        with contextlib.suppress(SpilloverError, ValueError):
            if _is_orphan(int(name, 16)):
                _run("ip", "link", "del", f"spa{name}")


def _names(folder: Path, prefix: str) -> list[str]:
    """What follows `prefix` in the names of a folder, which may not be there."""
    return [path.name.removeprefix(prefix) for path in folder.glob(f"{prefix}*")]


def _is_orphan(number: int) -> bool:
    """Whether the process is gone that made the link of that number."""
    return not psutil.pid_exists(number // _LINKS_A_PROCESS)


def fits(schedule: Schedule) -> bool:
    """Whether the kernel can pace it: a constant link with rates above 0."""
    first = schedule.links[0]
    return len(schedule.links) == 1 and first.up_bytes_per_s > 0 and first.down_bytes_per_s > 0


def _set_up(where: list[str], device: str, host: str, bytes_per_s: float) -> None:
    """Give one end its address and its pace. Large segments would never pass a small bucket: forbid them."""
    _run("ip", *where, "addr", "add", f"{host}/30", "dev", device)
    _run("ip", *where, "link", "set", "dev", device, "up", "gso_max_size", "1514", "gso_max_segs", "1")
    if math.isfinite(bytes_per_s):
        rate, burst = f"{round(bytes_per_s * 8)}bit", str(max(15_140, round(bytes_per_s / 250)))
        tbf = ("root", "tbf", "rate", rate, "burst", burst, "latency", f"{_QUEUE_MS}ms")
        _run("tc", *where, "qdisc", "add", "dev", device, *tbf)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpilloverError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise SpilloverError(f"{' '.join(command)}: {done.stderr.strip()}")
