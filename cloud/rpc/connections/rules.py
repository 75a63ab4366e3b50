"""Which connections are closed, and why: a pure function over a table of them."""

import enum
import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from spillover.cloud.config import LimitsConfig

Peer = tuple[str, int]
"""Address and port of the other side; IPv4 always in its own form, IPv6 compressed and without a zone."""

VAIN_BURST, VAIN_PER_S = 20, 50.0
"""Calls that come to nothing, of a connection that has shown nothing: at once, and in a second.

Each costs its sender two frames, and the server a third of a millisecond in which no device is served.
"""


class Standing(enum.IntEnum):
    """What a connection has shown of itself; the more, the later it has to go."""

    STRANGER = 0
    """Nothing: a handshake at most, or calls that need no permission."""
    KNOWN = 1
    """A call that was answered, on a server at which nobody proves an identity."""
    PROVEN = 2
    """An identity."""


class Cause(enum.Enum):
    """Why a connection is closed; values are metrics labels."""

    IDLE = "idle"
    """A stranger without a call for `limits.idle_timeout_s`."""
    ADDRESS = "address"
    """More connections without an identity from one address than `limits.max_connections_per_address`."""
    IDENTITY = "identity"
    """More connections of one identity than `limits.max_connections_per_identity`."""
    IN_VAIN = "in_vain"
    """A stranger who begins calls in vain, more often than `VAIN_PER_S`: HTTP/2's rapid reset."""
    CROWDED = "crowded"
    """More connections than `limits.max_connections`: who has shown least makes room."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection at one moment. Times are monotonic seconds."""

    peer: Peer
    since_s: float
    used_s: float
    """When its last call ended; `since_s` if it has had none."""
    standing: Standing = Standing.STRANGER
    name: str = ""
    """The identity, if one is proven."""
    calls: int = 0
    """How many are open."""
    in_vain: bool = False
    """Whether too many have come to nothing, by `VainCalls`."""


class VainCalls:
    """Counts the calls of one connection that came to nothing; each is forgotten after a while."""

    __slots__ = ("_at_s", "_level")

    def __init__(self) -> None:
        self._level = self._at_s = 0.0

    def too_many(self, now_s: float) -> bool:
        """Count one more at `now_s`, and tell whether that is one too many."""
        self._level = 1 + max(0.0, self._level - (now_s - self._at_s) * VAIN_PER_S)
        self._at_s = now_s
        return self._level > VAIN_BURST


@dataclass(frozen=True, slots=True)
class Rules:
    """The bounds."""

    idle_s: float
    total: int
    per_address: int
    per_identity: int

    @classmethod
    def of(cls, limits: LimitsConfig, total: int) -> "Rules":
        """Those of the configuration, for `total` connections in all.

        One address may by default hold half of them without an identity: many devices share one behind a
        router that translates addresses, and whoever proves who it is no longer counts.
        """
        per_address = limits.max_connections_per_address or max(1, total // 2)
        return cls(limits.idle_timeout_s, total, per_address, limits.max_connections_per_identity)


def to_close(connections: Sequence[Connection], rules: Rules, now_s: float) -> dict[Peer, Cause]:
    """The connections to close at `now_s`.

    For want of room a connection with calls open is closed only if it is a stranger's. One with an
    identity otherwise loses calls only by its identity's own bound.
    """
    closing: dict[Peer, Cause] = {}

    def close(excess: int, candidates: Iterable[Connection], cause: Cause) -> None:
        for connection in sorted(candidates, key=_who_goes_first)[: max(0, excess)]:
            closing[connection.peer] = cause

    def staying() -> list[Connection]:
        return [connection for connection in connections if connection.peer not in closing]

    vain = [one for one in connections if one.in_vain and one.standing is Standing.STRANGER]
    close(len(vain), vain, Cause.IN_VAIN)
    idle = [one for one in staying() if _is_idle_stranger(one) and one.used_s <= now_s - rules.idle_s]
    close(len(idle), idle, Cause.IDLE)
    for group in _grouped(staying(), lambda one: one.name):
        close(len(group) - rules.per_identity, group, Cause.IDENTITY)
    unproven = [one for one in staying() if one.standing is not Standing.PROVEN]
    for group in _grouped(unproven, lambda one: network_of(one.peer[0])):
        close(len(group) - rules.per_address, group, Cause.ADDRESS)
    left = staying()
    movable = [one for one in left if one.standing is Standing.STRANGER or not one.calls]
    close(len(left) - rules.total, movable, Cause.CROWDED)
    return closing


def network_of(address: str) -> str:
    """What counts as one address: of IPv6 the first half, since every host may use all of the other one."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address, 64), strict=False))


def _who_goes_first(one: Connection) -> tuple[bool, int, bool, float]:
    """Strangers first; among equals those without a call; of those that have been used, the longest idle."""
    shown = one.standing is not Standing.STRANGER
    if shown and one.calls:
        return True, len(Standing), True, one.since_s
    return shown, one.standing, bool(one.calls), one.used_s


def _is_idle_stranger(one: Connection) -> bool:
    return one.standing is Standing.STRANGER and not one.calls


def _grouped(connections: Iterable[Connection], key: Callable[[Connection], str]) -> list[list[Connection]]:
    groups: dict[str, list[Connection]] = defaultdict(list)
    for connection in connections:
        if name := key(connection):
            groups[name].append(connection)
    return list(groups.values())
