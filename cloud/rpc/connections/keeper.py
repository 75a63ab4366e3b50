"""Keeps room for those who prove who they are: closes connections by the rules, on a thread of its own."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from spillover.cloud.config import LimitsConfig
from spillover.cloud.rpc.connections.descriptors import make_places
from spillover.cloud.rpc.connections.rules import (
    Connection,
    Peer,
    Rules,
    Standing,
    VainCalls,
    network_of,
    to_close,
)
from spillover.cloud.rpc.connections.sockets import DESCRIPTORS, Sockets, parse_peer
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.log import get_logger
from spillover.common.net.addresses import UNIX, split_host_port

CONNECTION_BYTES = 43 * 1024
"""What gRPC keeps of one with TLS, measured."""
SCAN_S, SCAN_CROWDED_S, SCAN_WOKEN_S = 1.0, 0.05, 0.01
"""From one scan to the next: at most, when it is crowded, and when a flood asks for one."""
_CROWDED = 0.75
"""From this share of all connections on the scans follow each other faster."""
_LOG_INTERVAL_S = 10.0


class Activity:
    """What the calls of one connection have shown. Written on the event loop alone, read by the keeper."""

    __slots__ = ("calls", "in_vain", "name", "network", "peer", "standing", "used_s", "vain")

    def __init__(self, peer: str, now_s: float) -> None:
        self.peer = parse_peer(peer)
        self.network = network_of(self.peer[0]) if self.peer else peer
        self.calls = 0
        self.standing = Standing.STRANGER
        self.name = ""
        self.used_s = now_s
        self.vain: VainCalls | None = None
        self.in_vain = False

    def prove(self, name: str) -> None:
        """A call has proven this identity."""
        self.name = name
        self.standing = Standing.PROVEN


@dataclass(slots=True)
class _Seen:
    number: int
    since_s: float


class Scanned(Protocol):
    """The connections of the process; `Sockets` is the real one."""

    def scan(self) -> Mapping[Peer, int]:
        """The connections there are now, each with the number of its socket. Raises OSError."""
        ...

    def shut(self, peer: Peer) -> bool:
        """End one that the last scan has found; False if it is gone by now."""
        ...


class Connections:
    """The connections of one server, and what is known of each.

    The call wrapper reports what calls begin, prove and end; that costs a look-up a call. `anybody` says
    that nobody can prove an identity here, so that an answered call is the second-best proof. `freed` is
    told, on the keeper's thread, how many bytes connections have left behind.
    """

    def __init__(
        self,
        limits: LimitsConfig,
        metrics: Metrics,
        *,
        anybody: bool,
        freed: Callable[[int], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places = make_places(limits.max_connections)
        self._rules = Rules.of(limits, self.places.total)
        self._anybody = anybody
        self._freed = freed
        self._clock = clock
        self._remembers = False
        self._activities: dict[str, Activity] = {}
        self._seen: dict[Peer, _Seen] = {}
        self._now: list[Connection] = []
        self._closed = metrics.watch_connections(self.by_standing)
        self._unlogged: Counter[str] = Counter()
        self._logged_s = -_LOG_INTERVAL_S
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = get_logger("connections")

    def began(self, peer: str) -> Activity:
        """A call has come from `peer`, as gRPC says it; what is returned stands for the connection."""
        activity = self._activities.get(peer)
        if activity is None:
            activity = Activity(peer, self._clock())
            if self._remembers:  # else nobody would ever forget it
                self._activities[peer] = activity
        activity.calls += 1
        return activity

    def answered(self, activity: Activity) -> None:
        """A call was answered that not everybody may make."""
        if self._anybody and activity.standing is Standing.STRANGER:
            activity.standing = Standing.KNOWN

    def ended(self, activity: Activity) -> None:
        """A call has ended."""
        activity.calls -= 1
        activity.used_s = self._clock()

    def came_to_nothing(self, activity: Activity) -> None:
        """A call of a stranger has ended, and was given up, refused, or one that everybody may make.

        One who makes too many is closed at once: they fill the queue that everybody's calls wait in.
        """
        activity.vain = activity.vain or VainCalls()
        if activity.vain.too_many(self._clock()) and not activity.in_vain:
            activity.in_vain = True
            self._woken.set()

    def by_standing(self) -> dict[str, int]:
        """How many connections there are, by what they have shown, as the last scan saw it."""
        counted = Counter(one.standing for one in self._now)
        return {standing.name.lower(): counted[standing] for standing in Standing}

    def follow(self, limits: LimitsConfig) -> None:
        """Use changed limits; the number of connections itself is fixed."""
        self._rules = Rules.of(limits, self.places.total)

    def start(self, address: str) -> None:
        """Watch the connections to `address`, if it is a port and this system shows them."""
        if address.startswith(UNIX):
            return
        if not DESCRIPTORS.is_dir():
            self._log.warning(f"there is no {DESCRIPTORS} here: idle and surplus connections stay open")
            return
        self._remembers = True
        sockets = Sockets(split_host_port(address)[1])
        self._thread = threading.Thread(target=self._run, args=(sockets,), name="connections", daemon=True)
        self._thread.start()

    def stop(self, deadline_s: float) -> bool:
        """End by `deadline_s` (monotonic). Tells whether the thread has ended."""
        self._stopping.set()
        self._woken.set()
        if self._thread is None:
            return True
        self._thread.join(max(0.0, deadline_s - time.monotonic()))
        return not self._thread.is_alive()

    def tick(self, sockets: Scanned) -> None:
        """Look once, and close what the rules say."""
        now_s = self._clock()
        found = sockets.scan()
        activities = self._current(found, now_s)
        self._now = [self._connection(peer, activities.get(peer)) for peer in found]
        for peer, cause in to_close(self._now, self._rules, now_s).items():
            if sockets.shut(peer):
                self._closed.labels(cause.value).inc()
                self._unlogged[cause.value] += 1
        if self._unlogged and now_s - self._logged_s >= _LOG_INTERVAL_S:
            self._say(now_s)

    def _run(self, sockets: Scanned) -> None:
        while not self._stopping.is_set():
            if self._woken.wait(self._pause_s()):
                self._woken.clear()
                self._stopping.wait(SCAN_WOKEN_S)  # others of the same flood follow
            try:
                self.tick(sockets)
            except OSError as error:  # no descriptor is free; closing connections will change that
                self._log.error("connections cannot be listed", error=str(error))

    def _pause_s(self) -> float:
        return SCAN_CROWDED_S if len(self._now) > self.places.total * _CROWDED else SCAN_S

    def _current(self, found: Mapping[Peer, int], now_s: float) -> dict[Peer, Activity]:
        """What is known of the connections that there are; of those that are gone it is forgotten."""
        before, self._seen = self._seen, {}
        if gone := len(before.keys() - found.keys()):
            self._freed(gone * CONNECTION_BYTES)
        for there, number in found.items():
            seen = before.get(there)
            self._seen[there] = seen if seen and seen.number == number else _Seen(number, now_s)
        activities: dict[Peer, Activity] = {}
        for text, activity in list(self._activities.items()):  # at once: the event loop adds to it
            is_open = (peer := activity.peer) is not None and peer in found
            if peer and is_open and self._seen[peer] is before.get(peer, self._seen[peer]):
                activities[peer] = activity
            elif is_open or (not activity.calls and activity.used_s < now_s - SCAN_S):
                del self._activities[text]  # another connection has the port, or none
        return activities

    def _connection(self, peer: Peer, activity: Activity | None) -> Connection:
        since_s = self._seen[peer].since_s
        if activity is None:
            return Connection(peer, since_s, since_s)
        used_s = max(since_s, activity.used_s)
        return Connection(
            peer, since_s, used_s, activity.standing, activity.name, activity.calls, activity.in_vain
        )

    def _say(self, now_s: float) -> None:
        address, count = Counter(network_of(one.peer[0]) for one in self._now).most_common(1)[0]
        self._log.warning(
            "connections closed",
            because=dict(self._unlogged),
            connections=len(self._now),
            most_from=address,
            from_there=count,
        )
        self._unlogged.clear()
        self._logged_s = now_s
