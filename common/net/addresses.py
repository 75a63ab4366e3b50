"""Addresses: their parts, and what of them can be reached from where."""

import ipaddress
import re

# RFC 3986's host and port; before them gRPC's name of a resolver may stand, as in dns:///host:port.
_HOST_PORT = re.compile(r"(?:[a-z0-9]+:(?://[^/]*/)?)?(?:\[[0-9a-fA-F:.]+\]|[^:\s\[\]/]+):([0-9]{1,5})")
_MAX_PORT = 65535


def is_loopback(address: str) -> bool:
    """Whether gRPC's `address`, such as `host:port` or `unix:path`, can only be reached from this machine."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].rpartition("/")[2].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_host_port(address: str) -> tuple[str, int]:
    """Host without the brackets of IPv6, and port. Raises ValueError where there is no port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def with_port(address: str, port: int) -> str:
    """`address` with another port, as when port 0 was bound and became a real one."""
    return f"{address.rpartition(':')[0]}:{port}"


def check_host_port(key: str, address: str) -> None:
    """Raise ValueError when `address`, the value of `key`, is neither `host:port` nor a Unix socket."""
    if address.startswith("unix:"):
        return
    found = _HOST_PORT.fullmatch(address)
    if found is None:
        raise ValueError(f"{key}: {address!r} is not host:port, as in 192.0.2.7:50051 or [2001:db8::7]:50051")
    if int(found[1]) > _MAX_PORT:
        raise ValueError(f"{key}: {address!r}: a port is at most {_MAX_PORT}")
