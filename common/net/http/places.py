"""Who is connected, how many may be, and who has to go when another comes."""

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

MAX_CONNECTIONS = 16
"""Connections at once. One more takes the place of the oldest that has not proven who it is."""
MAX_OF_ADDRESS = 8
"""Of those, from one address."""
HEADERS_LIMIT_S = 5.0
"""Seconds until the request must be there in whole, TLS handshake included."""
REQUEST_LIMIT_S = 30.0
"""Maximum seconds per request in all, so that a client that reads byte by byte does not keep its place."""
MAX_STREAMS = 12
"""Answers without an end at once, beside `MAX_CONNECTIONS`; who has begun one gives way to nobody."""
STREAM_BUFFER_BYTES = 64 * 1024
"""What the kernel keeps of such an answer: a slow client is to see what is new, not what has waited."""
_MAX_THREADS = 2 * MAX_CONNECTIONS + MAX_STREAMS


@dataclass(slots=True, eq=False)
class Connection:
    """One client: since when it is here, whether its request has come, and what is known of it."""

    socket: socket.socket
    address: str
    since_s: float
    asked: bool = False
    proven: bool = False
    streams: bool = False

    def shut(self) -> None:
        """End what its thread waits for; the thread then closes it."""
        with suppress(OSError):  # the client closed it first
            # Not `SSLSocket.shutdown`, which takes the encryption away from under the thread.
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


class Places:
    """Who is connected, and who has to go when another comes. Several threads use it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[int, Connection] = {}
        """By the id of the socket, oldest first."""
        self._threads = 0

    def take(self, request: socket.socket, address: str) -> bool:
        """Give a newcomer a place, that of another if need be; False when there is none."""
        with self._lock:
            victim, has_place = self._victim(address)
            if not has_place or self._threads >= _MAX_THREADS:
                return False
            if victim is not None:
                del self._open[id(victim.socket)]
            self._open[id(request)] = Connection(request, address, self._clock())
            self._threads += 1
        if victim is not None:
            victim.shut()
        return True

    def leave(self, request: socket.socket) -> None:
        """The thread of `request` ends."""
        with self._lock:
            self._threads -= 1
            self._open.pop(id(request), None)

    def find(self, request: socket.socket) -> Connection | None:
        """Its connection; None when it has lost its place."""
        with self._lock:
            return self._open.get(id(request))

    def stream(self, request: socket.socket) -> bool:
        """Take its connection out of those that give way to newcomers; False when too many are out."""
        with self._lock:
            connection = self._open.get(id(request))
            streams = sum(one.streams for one in self._open.values())
            if connection is None or streams >= MAX_STREAMS:
                return False
            connection.streams = True
        request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BUFFER_BYTES)
        return True

    def overdue(self) -> list[Connection]:
        """Connections whose request has not come in time, or whose answer has not left in time."""
        now_s = self._clock()
        return [one for one in self.all() if not one.streams and now_s - one.since_s > _limit_s(one)]

    def all(self) -> list[Connection]:
        """Every connection that has a place."""
        with self._lock:
            return list(self._open.values())

    def _victim(self, address: str) -> tuple[Connection | None, bool]:
        """Who makes room for one from `address`, if somebody must; and whether there is room then."""
        counted = [one for one in self._open.values() if not one.streams]
        same = [one for one in counted if one.address == address]
        if len(same) >= MAX_OF_ADDRESS:
            victim = _first_to_go(same)
        elif len(counted) >= MAX_CONNECTIONS:
            victim = _first_to_go(counted)
        else:
            return None, True
        return victim, victim is not None


def _limit_s(connection: Connection) -> float:
    return REQUEST_LIMIT_S if connection.asked else HEADERS_LIMIT_S


def _first_to_go(connections: Iterable[Connection]) -> Connection | None:
    """The oldest that has not even asked, else the oldest that has not proven itself, else nobody."""
    unproven = [one for one in connections if not one.proven]
    return next((one for one in unproven if not one.asked), next(iter(unproven), None))
