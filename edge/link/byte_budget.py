"""A byte budget that is never overspent, not even across restarts.

Callers pass the time in seconds of a clock that never goes back while the process runs. The time between two
runs adds no bytes, because only the wall clock could measure it and the wall clock may be wrong.
"""

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from spillover.common.errors import ConfigError, InUseError
from spillover.common.files import FileLock, lock_file, read_regular, set_aside, write_atomic
from spillover.common.log import get_logger
from spillover.common.mounts import demand_folder, may_pass
from spillover.edge.config import BudgetConfig, UplinkConfig
from spillover.edge.config.paths import budget_file

_log = get_logger("budget")

CALL_BYTES = 500
"""Headers of one call, both directions together."""
CONNECTION_BYTES, TLS_BYTES = 2_000, 12_000
"""Upper bound for one connection attempt, both directions: TCP and HTTP/2, then TLS with two certificate
chains.
"""
PING_BYTES = 300
"""Upper bound for a keep-alive ping: two encrypted HTTP/2 frames in two packets, with their TCP ACKs."""
FRAMING = 0.05
"""TCP/IP headers (52 bytes in 1500), TLS records and HTTP/2 frames."""
_MAX_SAVED_BYTES = 4096
_SAVED_PARTS = 8
"""The file is written once for each eighth of a bucket that is spent, not for every frame."""


def wire_bytes(message_bytes: float) -> float:
    """Bytes that a message puts on the link, rounded up; `ByteMeter` counts connections and pings."""
    return math.ceil(message_bytes * (1 + FRAMING)) + CALL_BYTES


@dataclass(frozen=True, slots=True)
class Tokens:
    """A byte budget at one moment, counted as by `wire_bytes`. The default is "no budget"."""

    left_bytes: float = math.inf
    bucket_bytes: float = math.inf
    refill_bytes_per_s: float = math.inf

    @property
    def level(self) -> float:
        """Share of the bucket that is full; 1 without a budget."""
        return self.left_bytes / self.bucket_bytes if math.isfinite(self.bucket_bytes) else 1.0


UNLIMITED = Tokens()
"""The state without a byte budget: every message may be sent."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `bytes_per_period` in any `period_s` seconds, at most `bucket_bytes` of it at once.

    Raises:
        ValueError: a number is not positive, or the bucket holds more than half of the budget.
    """

    bytes_per_period: float
    period_s: float
    bucket_bytes: float

    def __post_init__(self) -> None:
        if min(self.bytes_per_period, self.period_s, self.bucket_bytes) <= 0:
            raise ValueError("budget, period and bucket must be greater than 0")
        if self.bucket_bytes > self.bytes_per_period / 2:
            raise ValueError("the bucket must not hold more than half of the period's budget")

    @property
    def refill_bytes_per_s(self) -> float:
        """Bytes added per second.

        A full bucket plus one period of refill equals the budget, so no window exceeds it.
        """
        return (self.bytes_per_period - self.bucket_bytes) / self.period_s


class TokenBucket:
    """Bytes that may be sent now. Starts with the balance of the previous run, so a restart adds no bytes."""

    def __init__(self, budget: Budget, now_s: float, left_bytes: float = 0.0) -> None:
        self._budget = budget
        self._tokens = min(left_bytes, budget.bucket_bytes)
        self._at_s = now_s

    def available(self, now_s: float) -> float:
        """Bytes that may be sent at `now_s`."""
        elapsed_s = max(0.0, now_s - self._at_s)
        self._at_s = max(now_s, self._at_s)
        self._tokens = min(
            self._budget.bucket_bytes, self._tokens + elapsed_s * self._budget.refill_bytes_per_s
        )
        return self._tokens

    def owe(self, payload_bytes: float, now_s: float) -> float:
        """Charge bytes already sent.

        The balance may go negative; later refills repay it. Returns the balance.
        """
        self._tokens = self.available(now_s) - payload_bytes
        return self._tokens

    def take(self, payload_bytes: float, now_s: float) -> bool:
        """Spend the bytes if the balance covers all of them; tell whether it did."""
        if payload_bytes > self.available(now_s):
            return False
        self._tokens -= payload_bytes
        return True


class SavedTokens:
    """A small file that holds the balance with which the next run starts; one process uses it at a time.

    A file that is damaged, or whose disk is away, full or read-only, is a balance of 0: less may leave than
    would have been allowed, never more.

    Raises:
        InUseError: another process uses the file.
        ConfigError: the path can never be a file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: FileLock | None = None
        self.left_bytes = 0.0
        try:
            self._be_alone()
            self.left_bytes = self._read()
            self.save(self.left_bytes)
        except OSError as error:
            if not may_pass(error):
                raise ConfigError(f"policy.budget.state_file {path}: {error}") from error
            self.left_bytes = 0.0
            _log.error("the byte budget begins at 0: its file cannot be used", error=str(error))

    def save(self, left_bytes: float) -> None:
        """Replace the file and sync it to disk before returning. Raises OSError."""
        try:
            self._be_alone()
        except InUseError as error:  # its disk has come, and another was quicker
            raise OSError(str(error)) from error
        write_atomic(self._path, msgspec.json.encode(_Saved(left_bytes)))
        self.left_bytes = left_bytes

    def close(self) -> None:
        """Let another process have the file."""
        if self._lock is not None:
            self._lock.close()

    def _be_alone(self) -> None:
        demand_folder(self._path)
        if self._lock is None:
            self._lock = lock_file(self._path, "policy.budget.state_file")
        else:
            self._lock.renew()

    def _read(self) -> float:
        try:
            saved = msgspec.json.decode(read_regular(self._path, _MAX_SAVED_BYTES), type=_Saved)
            return max(0.0, saved.left_bytes)
        except FileNotFoundError:
            return 0.0
        except msgspec.DecodeError as error:
            aside = set_aside(self._path)
            _log.error(
                "a damaged byte budget is set aside, and begins at 0", now=str(aside), error=str(error)
            )
            return 0.0


class _Saved(msgspec.Struct, frozen=True):
    left_bytes: float


class ByteMeter:
    """The token bucket that pays for every call and every connection. Thread-safe.

    It reserves `connection_bytes` for one connection attempt, because a call may fail and need a new
    connection. The saved balance is lowered on disk before bytes are sent, so a crash can never overspend.
    """

    def __init__(
        self,
        budget: Budget,
        clock: Callable[[], float],
        saved: SavedTokens | None = None,
        connection_bytes: float = 0.0,
    ) -> None:
        self._budget = budget
        self._connection_bytes = connection_bytes
        self._clock = clock
        self._saved = saved
        self._paying = threading.Lock()
        """Held while paying, which may take as long as a disk write."""
        self._lock = threading.Lock()
        """Guards the bucket; never held during a disk write, so `tokens` does not wait for the disk."""
        self._bucket = TokenBucket(budget, clock(), saved.left_bytes if saved else 0.0)
        self._charged_bytes = 0.0
        self._cannot_save = False

    @property
    def connection_bytes(self) -> float:
        """The charge for one connection attempt."""
        return self._connection_bytes

    @property
    def charged_bytes(self) -> float:
        """All bytes charged so far in this run."""
        return self._charged_bytes

    def tokens(self) -> Tokens:
        """The balance at this moment."""
        with self._lock:
            left_bytes = max(0.0, self._bucket.available(self._clock()) - self._connection_bytes)
        bucket_bytes = self._budget.bucket_bytes - self._connection_bytes
        return Tokens(left_bytes, bucket_bytes, self._budget.refill_bytes_per_s)

    def fits(self, message_bytes: float) -> bool:
        """Whether the bucket is large enough to ever send a message of this size."""
        return wire_bytes(message_bytes) <= self._budget.bucket_bytes - self._connection_bytes

    def take(self, message_bytes: float) -> bool:
        """Charge a message before it is sent, fully or not at all; may write to disk.

        Tells whether it was charged.
        """
        size, now_s = wire_bytes(message_bytes), self._clock()
        with self._paying:
            with self._lock:
                after = self._bucket.available(now_s) - size
            if after < self._connection_bytes or not self._save_before(after):
                return False
            with self._lock:
                self._charged_bytes += size
                return self._bucket.take(size, now_s)

    def connecting(self) -> None:
        """Charge one connection attempt, whether or not it succeeds. May write to disk."""
        with self._paying:
            with self._lock:
                self._charged_bytes += self._connection_bytes
                left_bytes = max(0.0, self._bucket.owe(self._connection_bytes, self._clock()))
            self._save_before(left_bytes)

    def close(self) -> None:
        """Save the balance for the next run, and let it have the file."""
        if self._saved is None:
            return
        with self._lock:
            left_bytes = max(0.0, self._bucket.available(self._clock()))
        try:
            self._saved.save(left_bytes)
        except OSError as error:
            _log.error("what is left of the byte budget is not saved", error=str(error))
        self._saved.close()

    def _save_before(self, left_bytes: float) -> bool:
        """Lower the saved balance in steps before spending; raise it when it is far too low."""
        part = self._budget.bucket_bytes / _SAVED_PARTS
        if self._saved is None or self._saved.left_bytes <= left_bytes <= self._saved.left_bytes + 3 * part:
            return True
        try:
            self._saved.save(max(0.0, left_bytes - part))
        except OSError as error:
            if not self._cannot_save:
                _log.error("nothing is sent while the byte budget cannot be saved", error=str(error))
            self._cannot_save = True
            return False
        if self._cannot_save:
            _log.info("the byte budget can be saved again")
        self._cannot_save = False
        return True


class Unmetered:
    """A `ByteMeter` for daemons without a byte budget: every message may be sent and nothing is charged."""

    connection_bytes = 0.0

    def tokens(self) -> Tokens:
        """The balance of an unlimited budget."""
        return Tokens()

    def fits(self, message_bytes: float) -> bool:
        """True: a message of any size may be sent."""
        del message_bytes
        return True

    def take(self, message_bytes: float) -> bool:
        """True, without charging anything."""
        del message_bytes
        return True

    def connecting(self) -> None:
        """Connection attempts cost nothing here."""

    def close(self) -> None:
        """There is no balance to save."""


def build_meter(config: BudgetConfig, uplink: UplinkConfig, device_id: str) -> ByteMeter:
    """Build the meter of a configuration.

    Raises:
        ConfigError: the budget file cannot be used, or pings and one connection alone would exceed the
            budget.
    """
    budget, connection_bytes = budget_of(config, uplink)
    return ByteMeter(budget, time.monotonic, _saved_tokens(config, device_id), connection_bytes)


def budget_of(config: BudgetConfig, uplink: UplinkConfig) -> tuple[Budget, float]:
    """The budget of a configuration, and what one connection attempt takes of it.

    The cost of keep-alive pings is deducted up front.

    Raises:
        ConfigError: pings and one connection alone would exceed the budget.
    """
    pings = math.ceil(PING_BYTES * config.per.seconds / uplink.keepalive_s)
    if pings > config.bytes / 2:
        raise ConfigError(
            f"policy.budget.bytes: {config.bytes} a {config.per.value}, and keep-alive pings alone may take "
            f"{pings}: set uplink.keepalive_s to {math.ceil(uplink.keepalive_s * 4 * pings / config.bytes)}"
        )
    connection_bytes = CONNECTION_BYTES + (TLS_BYTES if uplink.tls else 0)
    left = config.bytes - pings
    bucket = min(config.bucket_bytes or max(1, config.bytes // 10), left // 2)
    if bucket <= connection_bytes + CALL_BYTES:
        raise ConfigError(
            f"policy.budget: a bucket of {bucket} bytes cannot pay for a connection of up to "
            f"{connection_bytes} bytes and a call"
        )
    return Budget(left, config.per.seconds, bucket), connection_bytes


def _saved_tokens(config: BudgetConfig, device_id: str) -> SavedTokens | None:
    path = budget_file(config, device_id)
    if path is None:
        return None
    if not config.state_file:  # the cache folder is this program's own, and is made
        with suppress(OSError):  # `SavedTokens` says what is wrong with it
            path.parent.mkdir(parents=True, exist_ok=True)
    return SavedTokens(path)
