"""Addresses: what of them can be reached from where."""

import ipaddress


def is_loopback(address: str) -> bool:
    """Whether gRPC's `address`, such as `host:port` or `unix:path`, can only be reached from this machine."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].rpartition("/")[2].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
