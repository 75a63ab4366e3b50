"""Splits addresses, and tells which of them are reachable only from this machine."""

import ipaddress
import re

# Host and port of RFC 3986, optionally after the name of a gRPC resolver, as in dns:///host:port.
_HOST_PORT = re.compile(r"(?:[a-z0-9]+:(?://[^/]*/)?)?(?:\[[0-9a-fA-F:.]+\]|[^:\s\[\]/]+):([0-9]{1,5})")
_MAX_PORT = 65535
UNIX = "unix:"
"""How the address of a Unix socket begins, before the absolute path of its file."""
_MAX_UNIX_PATH = 107


def is_loopback(address: str) -> bool:
    """Whether gRPC's `address`, such as `host:port` or `unix:path`, is only reachable from this machine."""
    if address.startswith(UNIX):
        return True
    host = address.rpartition(":")[0].rpartition("/")[2].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def split_host_port(address: str) -> tuple[str, int]:
    """Host without IPv6 brackets, and port. Raises ValueError if there is no port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def with_port(address: str, port: int) -> str:
    """`address` with another port, for example the real one after binding port 0."""
    return f"{address.rpartition(':')[0]}:{port}"


def check_host_port(key: str, address: str) -> None:
    """Raise ValueError if `address`, the value of `key`, is neither `host:port` nor a Unix socket."""
    if address.startswith(UNIX):
        path = address.removeprefix(UNIX)
        if not path.startswith("/") or len(path.encode()) > _MAX_UNIX_PATH:
            raise ValueError(
                f"{key}: {address!r}: a Unix socket is unix:/absolute/path of at most {_MAX_UNIX_PATH} bytes"
            )
        return
    parts = _HOST_PORT.fullmatch(address)
    if parts is None:
        raise ValueError(f"{key}: {address!r} is not host:port, as in 192.0.2.7:50051 or [2001:db8::7]:50051")
    if int(parts[1]) > _MAX_PORT:
        raise ValueError(f"{key}: {address!r}: a port is at most {_MAX_PORT}")
