"""Whether this machine can hold the simulated edges of a test: open files, connections, and ports."""

import resource
from pathlib import Path

from spillover.cloud.config import LimitsConfig
from spillover.cloud.rpc.connections.descriptors import allowed_descriptors, places, too_few
from spillover.common.config import convert_config
from spillover.common.errors import ConfigError
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.links import links_of

_OTHERS = 256
"""What this process has open beside the links, generously."""
_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def require_room(config: LoadConfig, edges: int) -> None:
    """Raise this process's limit of open files as far as so many simulated edges need; children inherit it.

    Raises:
        ConfigError: a limit of the machine or of the server is too low; the text names it, and the cure.
    """
    if not config.generators:
        share = min((link.share for link in config.links.values() if link.share > 1), default=0)
        _require_descriptors(edges, links_of(edges, share) if share else 1)
        _require_ports(edges)
    if not config.cloud.address:
        _require_connections(config, edges)


def _require_descriptors(edges: int, ports: int) -> None:
    """Of the proxy that shapes the links: two for each connection, and one for each of its ports."""
    needed, allowed = 2 * edges + ports + _OTHERS, allowed_descriptors()
    if needed > allowed:
        raise ConfigError(
            f"{edges:,} simulated edges need {needed:,} open files, two for each, and this process may open "
            f"{allowed:,}: raise the limit (`ulimit -Hn {needed}` as root, or LimitNOFILE={needed} of the "
            "unit), play them with `generators` on several hosts, or name fewer"
        )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _require_ports(edges: int) -> None:
    """Each connection through the proxy takes a port of this machine at either end."""
    try:
        first, last = map(int, _PORTS.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # no Linux: it is found out when they connect
        return
    if edges > last - first:
        raise ConfigError(
            f"{edges:,} simulated edges need a port each, and this machine has {last - first:,}: widen "
            "net.ipv4.ip_local_port_range, or name fewer"
        )


def _require_connections(config: LoadConfig, edges: int) -> None:
    """Of the server that is started here, which all edges reach from one address."""
    limits = convert_config(config.cloud.config.get("limits", {}), LimitsConfig, "cloud.config.limits")
    total = places(limits.max_connections, allowed_descriptors()).total
    allowed = limits.max_connections_per_address or total // 2
    if edges <= allowed:
        return
    few = (
        f"{edges:,} simulated edges reach the server from one address, which may have {allowed:,} connections"
    )
    if total < limits.max_connections:
        raise ConfigError(f"{few}: {too_few(limits.max_connections, total)}")
    key = "_per_address" if limits.max_connections_per_address else ""
    most = edges if key else 2 * edges
    raise ConfigError(f"{few}: set cloud.config.limits.max_connections{key} to {most}, or name fewer edges")
