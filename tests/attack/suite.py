"""An attempt, what it is given, what came of it, and the verdict."""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import msgspec

from tests.attack.bystander import Calls
from tests.attack.wire import Connection, Stream, pump
from tests.attack.world import MEMORY_BYTES, STREAM_BYTES, WEAK, Kind, Server, World, memory
from tests.support.h2 import Header, framed

CALL_S = 20.0
"""How long an attempt waits for a status that must come."""
ATTACKER = "127.0.0.66"
"""The address that attackers come from; loopback has 16 million more."""
ENVOY_BYTES = 256 << 20
"""`max_heap_size_bytes` of deploy/envoy."""
_SETTLE_S = 15.0
_MARGIN, _NOISE = 1.2, 1.02
_POLL_S = 0.1
_CALLS_BESIDE = 2
_NAMED = 6
_LAST_WORDS = 300

STILL_OPEN = "no status yet"
REFUSED_AT_ONCE = {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "RST_REFUSED_STREAM", "RST_ENHANCE_YOUR_CALM"}
ENVOY = {
    *("HTTP_408", "HTTP_413", "HTTP_431", "HTTP_503", "HTTP_504"),
    *("UNAVAILABLE", "RST_INTERNAL_ERROR", "GOAWAY_COMPRESSION_ERROR", "closed"),
}
"""What a proxy may answer to anything that it does not like, in the server's place."""
CUT_OFF = {"closed", "GOAWAY_NO_ERROR", "GOAWAY_ENHANCE_YOUR_CALM", "GOAWAY_PROTOCOL_ERROR"}


class Row(msgspec.Struct, kw_only=True):
    """What came of one attempt; sizes in MB. `bound_mb`: size at rest and `memory_bytes`, and 20 %."""

    name: str
    sentence: str
    mode: str
    statuses: dict[str, int]
    unexpected: list[str]
    alive: bool
    ends: bool
    """The attempt ends the server, and says itself whether it ended well."""
    shared: bool = False
    """Many callers who prove nothing: the good device, as little known, may be put off meanwhile."""
    front_bounds: bool = False
    """gRPC alone has no bound of memory here, as docs/guides/security.md says; a proxy in front has."""
    at_rest_mb: float
    before_mb: float
    peak_mb: float
    after_mb: float
    bound_mb: float
    streams_mb: float = 0.0
    """What streams may keep while they are idle: they go when others need their room, and not before."""
    front_peak_mb: float = 0.0
    front_bound_mb: float = 0.0
    """The same of the proxy in front, if there is one; its `memory_bytes` is its heap's limit."""
    good: Calls
    good_afterwards: Calls
    seconds: float

    @property
    def failures(self) -> list[str]:
        """Why the row fails; empty: it does not."""
        found = [f"unexpected: {what}" for what in self.unexpected]
        if self.ends:
            return found
        if not self.alive:
            return [*found, "the server died"]
        for calls, when in ((self.good, "meanwhile"), (self.good_afterwards, "afterwards")):
            if calls.failures and not (self.shared and calls is self.good):
                found.append(f"the good device went unanswered {when}: {calls.failures}")
            elif not calls.calls:
                found.append(f"the good device made no call {when}")
        if self.front_peak_mb > self.front_bound_mb:
            found.append(f"the proxy's {self.front_peak_mb:.0f} MB passed {self.front_bound_mb:.0f} MB")
        if self.front_bounds:
            return found
        if self.peak_mb > self.bound_mb:
            found.append(f"{self.peak_mb:.0f} MB passed the bound of {self.bound_mb:.0f} MB")
        # What an earlier attempt on the same server has left is not this one's.
        if self.after_mb > max(self.at_rest_mb * _MARGIN + self.streams_mb, self.before_mb * _NOISE):
            found.append(f"{self.after_mb:.0f} MB were kept, {self.at_rest_mb:.0f} MB at rest")
        return found


@dataclass
class Scene:
    """What an attempt works with; `short`: it is to be done in seconds."""

    world: World
    server: Server
    short: bool
    expects: Collection[str]
    statuses: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    _connections: list[Connection] = field(default_factory=list)
    _callers: dict[str, Connection] = field(default_factory=dict)

    def of(self, long: int, short: int) -> int:
        """How many, in the long and in the short run."""
        return short if self.short else long

    def connect(self, who: str = WEAK, **options: object) -> Connection:
        """A connection of the caller in the server's mode. Raises OSError."""
        mode = self.server.mode
        given: dict[str, object] = {
            "tls": self.world.client_tls(mode, who),
            "metadata": self.world.client_metadata(mode, who),
            "source": ATTACKER,
        }
        connection = Connection(self.server.address, **(given | options))  # type: ignore[arg-type]
        self._connections.append(connection)
        return connection

    def connect_many(self, count: int, who: str = WEAK, **options: object) -> list[Connection]:
        """Up to so many connections; those that the server does not take are noted as closed."""
        made = []
        for _ in range(count):
            try:
                made.append(self.connect(who, **options))
            except OSError:
                self.statuses["closed"] += 1
        return made

    def call(
        self,
        path: str,
        message: bytes,
        *,
        who: str = WEAK,
        more: Iterable[Header] = (),
        limit_s: float = CALL_S,
    ) -> str:
        """How a unary call with this message ends."""
        return self.end_of(self._caller(who).call(path, message, more), limit_s)

    def all_of(
        self, path: str, messages: Sequence[bytes], *, who: str = WEAK, limit_s: float = CALL_S
    ) -> None:
        """Make the calls one after the other, and note how each ends."""
        for message in messages:
            self.saw(self.call(path, message, who=who, limit_s=limit_s))

    def saw(self, status: str, expects: Collection[str] = (), what: str = "") -> None:
        """Note what the attacker saw; anything but what is expected makes the row fail."""
        self.statuses[status] += 1
        expected = {*(expects or self.expects), *(ENVOY if self.world.front else ())}
        if status not in expected:
            self.unexpected[f"{what + ': ' if what else ''}{status}"] += 1

    def saw_all(self, streams: Iterable[Stream]) -> None:
        """Note how each call has ended, or that it has not."""
        for stream in streams:
            self.saw(stream.status or STILL_OPEN)

    def saw_each(
        self, calls: Mapping[str, Stream], expects: Collection[str] = (), limit_s: float = CALL_S
    ) -> None:
        """Await calls that are under way side by side, and note how each ended, by what it was."""
        self.pump(lambda: all(stream.status for stream in calls.values()), limit_s)
        for what, stream in calls.items():
            self.saw(stream.status or STILL_OPEN, expects, what)

    def require(self, holds: bool, what: str) -> None:
        """Make the row fail unless this holds."""
        if not holds:
            self.unexpected[what] += 1

    def pump(self, until: Callable[[], bool] = lambda: False, limit_s: float = CALL_S) -> bool:
        """Move bytes on all connections until the condition holds."""
        return pump(self._connections, until, limit_s)

    def end_of(self, stream: Stream, limit_s: float = CALL_S) -> str:
        """How a call ends."""
        self.pump(lambda: bool(stream.status), limit_s)
        return stream.status or STILL_OPEN

    def keep_calling(
        self, path: str, bodies: Sequence[tuple[Connection, bytes]], under_way: int, seconds: float
    ) -> None:
        """Have so many calls under way on each connection at any time, and note how each ends."""
        streams: list[list[Stream]] = [[] for _ in bodies]

        def refill() -> bool:
            for (connection, body), calls in zip(bodies, streams, strict=True):
                for ended in [one for one in calls if one.status]:
                    calls.remove(ended)
                    self.saw(ended.status)
                while len(calls) < under_way and not connection.ending:
                    calls.append(connection.call(path, body))
            return False

        self.pump(refill, seconds)

    def hold(self, seconds: float) -> None:
        """Go on for so long."""
        self.pump(limit_s=seconds)

    def withhold(self, connection: Connection, path: str, size: int, part: bytes) -> Stream:
        """Begin a call whose message says it has `size` bytes, and send this part of it."""
        stream = connection.open(path)
        connection.data(stream, framed(b"", length=size))
        connection.data(stream, part)
        return stream

    def close(self) -> None:
        """End all connections."""
        for connection in self._connections:
            connection.close()

    def _caller(self, who: str) -> Connection:
        connection = self._callers.get(who)
        if connection is None or connection.ending:
            connection = self._callers[who] = self.connect(who)
        return connection


Work = Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that somebody may try. `expects` are the statuses that it may see."""

    name: str
    sentence: str
    kind: Kind
    expects: frozenset[str]
    short: bool
    ends: bool
    shared: bool
    streams: bool
    front_bounds: bool
    direct_only: bool
    work: Work


ATTEMPTS: dict[str, Attempt] = {}
"""By name, in the order of the table; filled when `tests.attack.attempts` is imported."""


def attempt(
    kind: Kind,
    *expects: str,
    short: bool = True,
    ends: bool = False,
    shared: bool = False,
    streams: bool = False,
    front_bounds: bool = False,
    direct_only: bool = False,
) -> Callable[[Work], Work]:
    """Make a function an attempt: its name and docstring are the name and the sentence.

    `short`: it belongs to the short half. `ends`: it ends the server. `shared`: many callers prove nothing,
    so that the good one cannot be told from them. `streams`: it leaves streams behind. `front_bounds`: memory
    has a bound behind a proxy alone. `direct_only`: it makes no sense through a proxy.
    """

    def register(work: Work) -> Work:
        name = work.__name__.replace("_", "-")
        sentence = " ".join((work.__doc__ or "").split())
        ATTEMPTS[name] = Attempt(
            name,
            sentence,
            kind,
            frozenset(expects),
            short,
            ends,
            shared,
            streams,
            front_bounds,
            direct_only,
            work,
        )
        return work

    return register


def run(one: Attempt, world: World, *, short: bool) -> Row:
    """Make the attempt on a server of its kind, and say what came of it."""
    server = world.server(one.kind)
    server.good.answered(1)
    server.forget_peak()
    before, began_s = server.resident(), time.monotonic()
    scene = Scene(world, server, short, one.expects)
    good = Calls(0, 0, {}, [])
    try:
        with broken_off(scene):
            one.work(scene)
        if not one.ends:
            good = server.good.answered(_CALLS_BESIDE)
    finally:
        scene.close()
    seconds = time.monotonic() - began_s
    peak = server.peak()
    after = _settled(server)
    afterwards = server.good.answered(1) if not one.ends and server.alive else Calls(0, 0, {}, [])
    alive = server.alive
    row = Row(
        name=one.name,
        sentence=one.sentence,
        mode="envoy" if server.front else one.kind.mode.value,
        statuses=dict(scene.statuses),
        unexpected=[
            f"{count} x {what}" if count > 1 else what for what, count in scene.unexpected.most_common(_NAMED)
        ],
        alive=alive,
        ends=one.ends,
        shared=one.shared and not server.front,
        front_bounds=one.front_bounds and not server.front,
        at_rest_mb=server.at_rest / 1e6,
        before_mb=before / 1e6,
        peak_mb=peak / 1e6,
        after_mb=after / 1e6,
        bound_mb=(server.at_rest + MEMORY_BYTES) * _MARGIN / 1e6,
        # Half of it: two callers with a quarter each, or all who prove nothing.
        streams_mb=STREAM_BYTES / 2e6 if one.streams else 0.0,
        front_peak_mb=memory(server.front)["VmHWM"] / 1e6 if server.front else 0.0,
        front_bound_mb=(server.front_at_rest + ENVOY_BYTES) * _MARGIN / 1e6 if server.front else 0.0,
        good=good,
        good_afterwards=afterwards,
        seconds=seconds,
    )
    if not alive and not one.ends:
        row.unexpected.append(f"exit code {server.process.returncode}; its log ends {_last_words(server)!r}")
    if one.ends or row.failures:
        world.stop()  # the next attempt is to find a server in good health
    return row


@contextmanager
def broken_off(scene: Scene) -> Iterator[None]:
    """Let an attempt that cannot go on, for want of a connection, fail and not end the suite."""
    try:
        yield
    except OSError as error:
        scene.require(False, f"broken off: {error}")


def _last_words(server: Server) -> str:
    """The end of the log."""
    return server.log.read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:]


def _settled(server: Server) -> int:
    """What the server uses once its memory has come back, or when the limit for that is over."""
    end_s = time.monotonic() + _SETTLE_S
    smallest = math.inf
    with suppress(ProcessLookupError):
        while server.alive and time.monotonic() < end_s:
            smallest = min(smallest, server.resident())
            if smallest <= server.at_rest * _MARGIN:
                break
            time.sleep(_POLL_S)
    return int(smallest) if smallest < math.inf else 0
