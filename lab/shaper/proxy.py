"""A TCP proxy that delays and paces what passes: each connection is a link of its own, like a device's.

Bytes leave in the order they came. A piece that arrives at t begins to be sent when the piece before it is
through, takes bytes / rate, and is delivered one delay later. At most `BUFFER_BYTES` wait in one direction;
then the proxy reads no more and TCP holds the sender back, as a full modem buffer would.
"""

import asyncio
import contextlib
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from common.errors import ConfigError, UnavailableError
from lab.shaper.link import Link, Schedule

PIECE_BYTES = 16 * 1024
BUFFER_BYTES = 256 * 1024
START_LIMIT_S = 10.0


@dataclass(slots=True)
class Traffic:
    """Bytes that passed and connections that were made, since the proxy began."""

    up_bytes: int = 0
    down_bytes: int = 0
    connections: int = 0


class ShapedProxy:
    """Connections to `address` reach `target` over `schedule`. Runs on a thread of its own.

    Raises:
        ConfigError: `target` is not `host:port`.
    """

    def __init__(self, target: str, schedule: Schedule, listen_host: str = "127.0.0.1") -> None:
        host, _, port = target.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"address of the cloud is {target!r}; it must be host:port")
        self._target = (host.strip("[]"), int(port))
        self._schedule = schedule
        self._listen_host = listen_host
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shaper", daemon=True)
        self._started_s = 0.0
        self.traffic = Traffic()
        self.address = ""

    def link_now(self) -> Link:
        """The link that holds at this moment."""
        return self._schedule.at(time.monotonic() - self._started_s)

    def cpu_s(self) -> float:
        """CPU seconds that the shaper's thread has used."""
        assert self._thread.ident is not None  # noqa: S101 - asked between start and stop
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))

    def start(self) -> None:
        """Begin to listen. Raises UnavailableError when that fails."""
        self._started_s = time.monotonic()
        self._thread.start()
        if not self._ready.wait(START_LIMIT_S) or not self.address:
            raise UnavailableError("the link shaper could not begin to listen")

    def stop(self) -> None:
        """Close every connection; at most a few seconds."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_LIMIT_S)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connection(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, self._listen_host, 0, limit=PIECE_BYTES, backlog=4096)
        host, port = server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.traffic.connections += 1
        writers = [writer]
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target, limit=PIECE_BYTES)
            writers.append(far_writer)
            for one in writers:
                one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            up = self._pipe(reader, far_writer, lambda link: link.up_bytes_per_s, self._count_up)
            down = self._pipe(far_reader, writer, lambda link: link.down_bytes_per_s, self._count_down)
            await _until_one_ends(up, down)
        except OSError:
            pass  # refused or reset: the other side is closed below and learns it that way
        finally:
            for one in writers:
                with contextlib.suppress(OSError):
                    one.transport.abort()

    async def _pipe(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        rate_of: Callable[[Link], float],
        count: Callable[[int], None],
    ) -> None:
        lane = _Lane(self._schedule, self._started_s, rate_of)
        await _until_one_ends(lane.fill(reader), lane.drain(writer, count))

    def _count_up(self, size: int) -> None:
        self.traffic.up_bytes += size

    def _count_down(self, size: int) -> None:
        self.traffic.down_bytes += size


class _Lane:
    """One direction of one connection."""

    def __init__(self, schedule: Schedule, started_s: float, rate_of: Callable[[Link], float]) -> None:
        self._schedule = schedule
        self._started_s = started_s
        self._rate_of = rate_of
        self._free_at_s = 0.0
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()

    async def fill(self, reader: asyncio.StreamReader) -> None:
        """Take bytes in until the sender closes; returns when all of them are delivered."""
        while piece := await reader.read(PIECE_BYTES):
            self._waiting.append((self._due_s(len(piece), time.monotonic()), piece))
            self._waiting_bytes += len(piece)
            self._changed.set()
            while self._waiting_bytes > BUFFER_BYTES:
                await self._wait()
        while self._waiting:
            await self._wait()

    async def drain(self, writer: asyncio.StreamWriter, count: Callable[[int], None]) -> None:
        """Deliver each piece at its time."""
        while True:
            while not self._waiting:
                await self._wait()
            due_s, piece = self._waiting[0]
            if (left_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(left_s)
            count(len(piece))
            writer.write(piece)
            await writer.drain()
            self._waiting.popleft()
            self._waiting_bytes -= len(piece)
            self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _due_s(self, size: int, now_s: float) -> float:
        """When `size` bytes that arrive now are delivered; an outage holds them until it ends."""
        begin_s = max(now_s, self._free_at_s)
        link = self._schedule.at(begin_s - self._started_s)
        while not self._rate_of(link):
            change_s = self._schedule.next_change_s(begin_s - self._started_s)
            if math.isinf(change_s):
                return math.inf
            begin_s += change_s + 1e-6  # past the edge, whatever rounding says
            link = self._schedule.at(begin_s - self._started_s)
        self._free_at_s = begin_s + size / self._rate_of(link)
        return self._free_at_s + link.one_way_s


@contextlib.contextmanager
def shaped(target: str, schedule: Schedule) -> Iterator[ShapedProxy]:
    """A proxy to `target` while the block lasts."""
    proxy = ShapedProxy(target, schedule)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


async def _until_one_ends(*bodies: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(body) for body in bodies]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
