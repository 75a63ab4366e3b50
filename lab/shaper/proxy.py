"""A TCP proxy that delays and paces bytes: all connections through one of its links share that link's rate.

Bytes leave in the order they came. A piece that arrives at t begins to be sent when the piece before it is
through, takes bytes / rate, and is delivered one delay later. At most `BUFFER_BYTES` wait in one direction of
a link; then the proxy reads no more and TCP holds the senders back, as a full modem buffer would.
"""

import asyncio
import contextlib
import math
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from spillover.lab.shaper.link import Link, Schedule
from spillover.lab.shaper.listener import PIECE_BYTES, Listener, until_one_ends

BUFFER_BYTES = 256 * 1024


@dataclass(slots=True)
class Traffic:
    """Bytes that passed and connections that were made, since the proxy began."""

    up_bytes: int = 0
    down_bytes: int = 0
    connections: int = 0


class ShapedProxy(Listener):
    """Connections to each of `addresses` reach `target` over one link, which is as `schedule` says.

    There are so many `links`, alike, each with an address; 0 is one address, and a link for each connection.

    Raises:
        ConfigError: `target` is not `host:port`.
    """

    def __init__(
        self, target: str, schedule: Schedule, listen_host: str = "127.0.0.1", links: int = 1
    ) -> None:
        super().__init__(target, listen_host, max(1, links))
        self._schedule = schedule
        self._links = [(_Pace(), _Pace()) for _ in range(links)]
        self._started_s = 0.0
        self.traffic = Traffic()

    def start(self) -> None:
        """Begin to listen; the schedule begins now. Raises UnavailableError."""
        self._started_s = time.monotonic()
        super().start()

    def link_now(self) -> Link:
        """The link that holds at this moment."""
        return self._schedule.at(time.monotonic() - self._started_s)

    @property
    def started_s(self) -> float:
        """When the schedule began, by `time.monotonic`."""
        return self._started_s

    async def _connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        self.traffic.connections += 1
        up_pace, down_pace = self._links[port] if self._links else (_Pace(), _Pace())
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target, limit=PIECE_BYTES)
            writers.append(far_writer)
            for end in writers:
                end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            up = self._pipe(reader, far_writer, lambda link: link.up_bytes_per_s, up_pace, self._count_up)
            down = self._pipe(
                far_reader, writer, lambda link: link.down_bytes_per_s, down_pace, self._count_down
            )
            await until_one_ends(up, down)
        except OSError:
            pass  # refused or reset: the other side is closed below
        finally:
            for end in writers:
                with contextlib.suppress(OSError):
                    end.transport.abort()

    async def _pipe(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        rate_of: Callable[[Link], float],
        pace: "_Pace",
        count: Callable[[int], None],
    ) -> None:
        lane = _Lane(self._schedule, self._started_s, rate_of, pace)
        try:
            await until_one_ends(lane.fill(reader), lane.drain(writer, count))
        finally:
            lane.leave()

    def _count_up(self, size: int) -> None:
        self.traffic.up_bytes += size

    def _count_down(self, size: int) -> None:
        self.traffic.down_bytes += size


@dataclass(slots=True, eq=False)
class _Pace:
    """One direction of one link, whoever uses it."""

    free_at_s: float = 0.0
    """When all that was taken in has been sent."""
    waiting_bytes: int = 0
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    """Something that waited was delivered."""


class _Lane:
    """One direction of one connection."""

    def __init__(
        self, schedule: Schedule, started_s: float, rate_of: Callable[[Link], float], pace: _Pace
    ) -> None:
        self._schedule = schedule
        self._started_s = started_s
        self._rate_of = rate_of
        self._pace = pace
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._changed = asyncio.Event()

    async def fill(self, reader: asyncio.StreamReader) -> None:
        """Take bytes in until the sender closes; returns when all of them are delivered."""
        while piece := await reader.read(PIECE_BYTES):
            self._waiting.append((self._due_s(len(piece), time.monotonic()), piece))
            self._pace.waiting_bytes += len(piece)
            self._changed.set()
            while self._pace.waiting_bytes > BUFFER_BYTES:
                await self._until_freed()
        while self._waiting:
            await self._until_freed()

    async def drain(self, writer: asyncio.StreamWriter, count: Callable[[int], None]) -> None:
        """Deliver each piece at its time."""
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            due_s, piece = self._waiting[0]
            if (left_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(left_s)
            count(len(piece))
            writer.write(piece)
            await writer.drain()
            self._waiting.popleft()
            self._pace.waiting_bytes -= len(piece)
            self._pace.freed.set()

    def leave(self) -> None:
        """Give the link's buffer back what will not be delivered any more."""
        self._pace.waiting_bytes -= sum(len(piece) for _, piece in self._waiting)
        self._waiting.clear()
        self._pace.freed.set()

    async def _until_freed(self) -> None:
        self._pace.freed.clear()
        await self._pace.freed.wait()

    def _due_s(self, size: int, now_s: float) -> float:
        """When `size` bytes that arrive now are delivered; an outage holds them until it ends."""
        begin_s = max(now_s, self._pace.free_at_s)
        link = self._schedule.at(begin_s - self._started_s)
        while not self._rate_of(link):
            change_s = self._schedule.next_change_s(begin_s - self._started_s)
            if math.isinf(change_s):
                return math.inf
            begin_s += change_s + 1e-6  # past the edge, whatever rounding says
            link = self._schedule.at(begin_s - self._started_s)
        self._pace.free_at_s = begin_s + size / self._rate_of(link)
        return self._pace.free_at_s + link.one_way_s


@contextlib.contextmanager
def shaped(target: str, schedule: Schedule, links: int = 1) -> Iterator[ShapedProxy]:
    """A proxy to `target` over so many links while the block lasts."""
    with ShapedProxy(target, schedule, links=links) as proxy:
        yield proxy
