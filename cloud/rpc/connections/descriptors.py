"""How many connections this process has file descriptors for.

A full table would stop more than new connections: the metrics page, the log, and the keeper's own look.
"""

import resource
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


def allowed_descriptors() -> int:
    """The most that this process may raise its limit to; a great number where there is no limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if hard == resource.RLIM_INFINITY else hard


def make_places(max_connections: int) -> Places:
    """The places of this process, whose limit is raised as far as it needs; logs it if they are too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(_MOMENTARY * max_connections + _OTHERS, allowed_descriptors())
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    found = places(max_connections, wanted)
    if found.total < max_connections:
        get_logger("connections").warning(too_few(max_connections, found.total))
    return found


def too_few(max_connections: int, total: int) -> str:
    """What to say where there are `total` places alone."""
    return (
        f"limits.max_connections: {max_connections} connections need {2 * max_connections + _OTHERS} open "
        f"files, and this process may open fewer (LimitNOFILE, ulimit -Hn): it takes {total}"
    )
