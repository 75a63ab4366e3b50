"""The base of the shaper's proxies: listens on its own thread and connects to one target."""

import asyncio
import contextlib
import functools
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from spillover.common.errors import ConfigError, UnavailableError

PIECE_BYTES = 16 * 1024
START_LIMIT_S = 10.0
_BACKLOG = 4096


class Listener(ABC):
    """Accepts connections on `ports` free ports of `listen_host`; each is served by `_connection`.

    Raises:
        ConfigError: `target` is not `host:port`.
    """

    def __init__(self, target: str, listen_host: str = "127.0.0.1", ports: int = 1) -> None:
        self._target = host_and_port(target)
        self._listen_host = listen_host
        self._ports = ports
        self._loop = asyncio.new_event_loop()
        self.complaints = first_complaint(self._loop)
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shaper", daemon=True)
        self.addresses: list[str] = []
        """`host:port` of each port once started."""

    @property
    def address(self) -> str:
        """The first of `addresses`."""
        return self.addresses[0]

    def start(self) -> None:
        """Begin to listen. Raises UnavailableError when that fails."""
        self._thread.start()
        if not self._ready.wait(START_LIMIT_S) or len(self.addresses) < self._ports:
            raise UnavailableError("the link shaper could not begin to listen")

    def stop(self) -> None:
        """Close every connection; at most a few seconds."""
        if self._thread.is_alive():
            self._soon(self._stopping.set)
            self._thread.join(START_LIMIT_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def cpu_s(self) -> float:
        """CPU seconds that the thread has used."""
        assert self._thread.ident is not None  # noqa: S101 - asked between start and stop
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))

    @abstractmethod
    async def _connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        """Serve one connection to the `port`-th of `addresses`; cancelled at the end."""

    def _soon(self, change: Callable[[], object]) -> None:
        """Run on the thread."""
        self._loop.call_soon_threadsafe(change)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accepted(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connection(reader, writer, port))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        servers = []
        for number in range(self._ports):
            serve = functools.partial(accepted, number)
            server = await asyncio.start_server(
                serve, self._listen_host, 0, limit=PIECE_BYTES, backlog=_BACKLOG
            )
            servers.append(server)
            host, port = server.sockets[0].getsockname()[:2]
            self.addresses.append(f"{host}:{port}")
        self._ready.set()
        await self._stopping.wait()
        for server in servers:
            server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def first_complaint(loop: asyncio.AbstractEventLoop) -> list[str]:
    """The first of what a loop complains of, once it does, in place of a traceback for each.

    A process without a free descriptor complains of every connection that waits, again and again.
    """
    first: list[str] = []

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not first:
            error = context.get("exception")
            first.append(f"{context['message']}{f': {error}' if error else ''}")

    loop.set_exception_handler(note)
    return first


def host_and_port(target: str) -> tuple[str, int]:
    """The two parts of `host:port`. Raises ConfigError."""
    host, _, port = target.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"address of the cloud is {target!r}; it must be host:port")
    return host.strip("[]"), int(port)


def abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST: lingering for 0 seconds throws away what waits to be sent."""
    with contextlib.suppress(OSError, AttributeError):
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def until_one_ends(*bodies: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends, then cancel the others; raises the error of the first."""
    tasks = [asyncio.ensure_future(body) for body in bodies]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
