"""How many connections this process has file descriptors for.

A full table would stop more than new connections: the metrics page, the log, and the keeper's own look.
"""

import resource
from contextlib import suppress
from dataclasses import dataclass

from spillover.common.log import get_logger

_OTHERS = 128
"""What a server has open beside its connections, generously."""
_MOMENTARY = 4
"""gRPC accepts so many times the connections that stay, because closing takes a moment.

One attacker who reconnects in a loop comes to 2000 a second on two cores, and a look that closes as many
takes a second there; while gRPC refuses, a device has no better chance than he has.
"""


@dataclass(frozen=True, slots=True)
class Places:
    """Connections that may stay, and those that gRPC accepts: a new one is there before an old one goes."""

    total: int
    accepted: int


def places(max_connections: int, descriptors: int) -> Places:
    """The places for `limits.max_connections` in a process of so many descriptors."""
    accepted = max(2, min(_MOMENTARY * max_connections, descriptors - _OTHERS))
    return Places(max(1, min(max_connections, accepted // 2)), accepted)


def make_places(max_connections: int) -> Places:
    """The same in this process, whose limit is raised as far as it may be; logs it if that is too low."""
    needed = _MOMENTARY * max_connections + _OTHERS
    found = places(max_connections, _descriptors(needed))
    if found.total < max_connections:
        get_logger("connections").warning(
            f"limits.max_connections: {max_connections} needs {2 * max_connections + _OTHERS} open files; "
            f"this process may open fewer (LimitNOFILE, ulimit -n), so it takes {found.total} connections"
        )
    return found


def _descriptors(needed: int) -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        return allowed
    return soft
