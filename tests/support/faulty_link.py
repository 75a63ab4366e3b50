"""A TCP proxy that breaks on command: what a test does to a link.

    pass     bytes pass, after `delay_s` (and up to `jitter_s` more), at `rate_bytes_per_s` at most; a share
             `loss` of the pieces waits `LOSS_DELAY_S` longer, as TCP does until it sends a lost segment again
    stall    connections are kept and accepted, nothing passes in either direction
    half     bytes pass from client to server, no answer comes back: a half-open connection
    cut      every connection is reset, and new ones are refused
    garbage  answers are replaced by noise of the same length

`reset` ends the connections of the moment and leaves the mode; `lead_to` exchanges the server.
Every method may be called from any thread.
"""

import asyncio
import enum
import random
from collections.abc import Callable
from dataclasses import dataclass

from spillover.lab.shaper.listener import PIECE_BYTES, Listener, abort, host_and_port, until_one_ends

LOSS_DELAY_S = 0.2
"""The least retransmission timeout of Linux's TCP."""


class Mode(enum.Enum):
    """What happens to bytes."""

    PASS = "pass"
    STALL = "stall"
    HALF = "half"
    CUT = "cut"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Weather:
    """How bytes pass in mode PASS."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    rate_bytes_per_s: float = float("inf")
    loss: float = 0.0


class FaultyProxy(Listener):
    """Connections to `address` reach `target`, `host:port`, unless told otherwise.

    Raises:
        ConfigError: `target` is not `host:port`.
    """

    def __init__(self, target: str, seed: int = 0) -> None:
        super().__init__(target)
        self._draw = random.Random(seed).random
        self._mode, self._weather = Mode.PASS, Weather()
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self.up_bytes = self.down_bytes = self.connections = 0

    def set(self, mode: Mode, weather: Weather | None = None) -> None:
        """Change what happens to bytes from now on."""

        def change() -> None:
            self._mode = mode
            self._weather = weather or Weather()
            if mode is Mode.STALL:
                self._passing.clear()
            else:
                self._passing.set()
            if mode is Mode.CUT:
                self._reset()

        self._soon(change)

    def reset(self) -> None:
        """End the connections of the moment with RST."""
        self._soon(self._reset)

    def lead_to(self, target: str) -> None:
        """Connect to another server from now on; the connections of the moment end."""

        def change() -> None:
            self._target = host_and_port(target)
            self._reset()

        self._soon(change)

    async def _connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        del port  # there is one
        self.connections += 1
        self._writers.add(writer)
        far_writer: asyncio.StreamWriter | None = None
        try:
            if self._mode is Mode.CUT:
                return
            far_reader, far_writer = await asyncio.open_connection(*self._target, limit=PIECE_BYTES)
            self._writers.add(far_writer)
            await until_one_ends(
                self._pipe(reader, far_writer, self._count_up, answers=False),
                self._pipe(far_reader, writer, self._count_down, answers=True),
            )
        except OSError:
            pass  # the server is gone; the client learns it from the reset below
        finally:
            for one in (writer, far_writer):
                if one is not None:
                    self._writers.discard(one)
                    abort(one)

    async def _pipe(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        count: Callable[[int], None],
        *,
        answers: bool,
    ) -> None:
        """Pass pieces in order; a delay holds up those behind it, as on a link that keeps order."""
        while piece := await reader.read(PIECE_BYTES):
            await self._passing.wait()
            if answers and self._mode is Mode.HALF:
                continue
            await asyncio.sleep(self._seconds_for(len(piece)))
            await self._passing.wait()
            if answers and self._mode is Mode.GARBAGE:
                piece = bytes(int(256 * self._draw()) for _ in piece)
            writer.write(piece)
            count(len(piece))
            await writer.drain()

    def _seconds_for(self, size: int) -> float:
        weather = self._weather
        lost = LOSS_DELAY_S if weather.loss and self._draw() < weather.loss else 0.0
        return weather.delay_s + weather.jitter_s * self._draw() + size / weather.rate_bytes_per_s + lost

    def _count_up(self, size: int) -> None:
        self.up_bytes += size

    def _count_down(self, size: int) -> None:
        self.down_bytes += size

    def _reset(self) -> None:
        for writer in tuple(self._writers):
            abort(writer)
