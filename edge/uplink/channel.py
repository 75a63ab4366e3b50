"""The channel to the cloud and its credentials, TLS and token, which are reloaded when their files change."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from spillover.common.log import get_logger
from spillover.common.net.reload import Reloading, read_file, read_secret, warn_if_exposed
from spillover.edge.config import UplinkConfig
from spillover.edge.uplink.tls_diagnosis import explain

if TYPE_CHECKING:
    # Loads a library that an uplink without TLS does not need.
    from spillover.common.net.tls import KeyPair
    from spillover.edge.uplink.protocol import Method

_log = get_logger("uplink")

_REMINDER_S = 24 * 3600.0
_SAME_ADVICE_S = 600.0
_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_TRYING = frozenset({grpc.ChannelConnectivity.CONNECTING, grpc.ChannelConnectivity.READY})
_TRIED = frozenset({grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE})

Options = Sequence[tuple[str, int]]
MethodOf = Callable[[grpc.Channel], "Method"]


class ConnectMeter:
    """Calls `attempted` for each connection attempt of one channel, and `lost` when an attempt has failed.

    gRPC reports channel states late and may skip short ones, so an attempt is inferred from any state that
    follows it. A failed channel reconnects by itself, at times that no state shows (gRPC proposal A62: it
    stays in TRANSIENT_FAILURE until it is READY). Where attempts are charged, such a channel must be dropped.
    Thread-safe.
    """

    def __init__(self, attempted: Callable[[], None], lost: Callable[[], None]) -> None:
        self._attempted = attempted
        self._lost = lost
        self._lock = threading.Lock()
        self._state: grpc.ChannelConnectivity = grpc.ChannelConnectivity.IDLE
        self._unseen = False

    @property
    def failed(self) -> bool:
        """Whether the last attempt found no server."""
        return self._state is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    def watch(self, channel: grpc.Channel) -> None:
        """Follow this channel's states, on a gRPC thread."""
        channel.subscribe(self.changed)

    def called(self) -> None:
        """Note that a call starts on the channel, which connects if necessary."""
        with self._lock:
            self._unseen |= self._state not in _TRYING

    def changed(self, state: grpc.ChannelConnectivity) -> None:
        """Note the channel's new state."""
        with self._lock:
            skipped = state in _TRIED and self._state is not grpc.ChannelConnectivity.CONNECTING
            begins = state is grpc.ChannelConnectivity.CONNECTING or skipped
            self._state = state
            self._unseen &= not begins
        if begins:
            self._attempted()
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            self._lost()

    def closed(self) -> None:
        """Note that the channel is closed; an attempt by a call that no state has shown is counted now."""
        with self._lock:
            unseen, self._unseen = self._unseen, False
        if unseen:
            self._attempted()


class Unwatched:
    """A `ConnectMeter` for attempts that cost nothing: gRPC may keep its channel and reconnect by itself."""

    failed = False

    def watch(self, channel: grpc.Channel) -> None:
        """Do not follow the channel's states, because that would cost a thread."""

    def called(self) -> None:
        """Calls are not counted, because attempts cost nothing."""

    def closed(self) -> None:
        """No attempt is left to count."""


class Connection:
    """One channel and the number of its calls; it is not closed while calls are running."""

    def __init__(self, channel: grpc.Channel, method: "Method", meter: ConnectMeter | Unwatched) -> None:
        self.method = method
        self._channel = channel
        self._meter = meter
        self._lock = threading.Lock()
        self._calls = 0

    def track(self, call: "grpc.Future[Any]") -> None:
        """Count a call until it ends."""
        self._meter.called()
        with self._lock:
            self._calls += 1
        call.add_done_callback(self._ended)

    @property
    def is_idle(self) -> bool:
        """Whether every call has ended."""
        with self._lock:
            return not self._calls

    @property
    def has_failed(self) -> bool:
        """Whether the last attempt found no server; False where attempts are not counted."""
        return self._meter.failed

    def close(self) -> None:
        """Close the channel, which cancels its calls."""
        self._channel.close()
        self._meter.closed()

    def _ended(self, _: object) -> None:
        with self._lock:
            self._calls -= 1


class Connections:
    """Gives the connection for the next call; makes a new one when certificates have changed.

    `method_of` returns the method to call on a channel; `meter` makes the meter of each new channel. All
    methods must run on one thread. Raises ConfigError as `Credentials` does.
    """

    def __init__(
        self,
        config: UplinkConfig,
        method_of: MethodOf,
        meter: Callable[[], ConnectMeter | Unwatched] = Unwatched,
    ) -> None:
        self._options = channel_options(config)
        self._method_of = method_of
        self._meter = meter
        self.credentials = Credentials(config)
        self._current = self._open()
        self._retired: list[Connection] = []
        self.credentials.remind()

    def current(self) -> Connection:
        """The connection for a call that starts now."""
        if self.credentials.renewed():
            self._retired.append(self._current)
            self._current = self._open()
        self.credentials.remind()
        self.drop_failed()
        return self._current

    def renew(self) -> None:
        """Replace the connection at once, because it is dead and its calls have failed.

        gRPC notices a silent connection only after minutes, and waits out a back-off after a refused one. A
        new channel connects as soon as the breaker allows the next probe.
        """
        self._current.close()
        self._current = self._open()

    def drop_failed(self) -> None:
        """Drop a failed channel, which would reconnect by itself without being charged.

        Its calls may still end.
        """
        if self._current.has_failed:
            self._retired.append(self._current)
            self._current = self._open()
        for connection in [retired for retired in self._retired if retired.is_idle]:
            self._retired.remove(connection)
            connection.close()

    @property
    def has_retired(self) -> bool:
        """Whether a replaced connection waits for its last calls."""
        return bool(self._retired)

    def close(self) -> None:
        """Close every connection, which cancels its calls."""
        for connection in (*self._retired, self._current):
            connection.close()

    def _open(self) -> Connection:
        channel = self.credentials.channel(self._options)
        meter = self._meter()
        meter.watch(channel)
        return Connection(channel, self._method_of(channel), meter)


@dataclass(frozen=True, slots=True, eq=False)
class _TlsFiles:
    """Content of the files of `uplink.tls`."""

    ca_pem: bytes
    device: "KeyPair | None"


class Credentials:
    """The certificates and the token of this device, reloaded when their files change.

    All methods except `note_failure` and `expires_unix_s` must run on one thread.

    Raises:
        ConfigError: a file cannot be read at first, or certificate and key do not match.
    """

    def __init__(self, config: UplinkConfig) -> None:
        self._config = config
        self._tls = Reloading(_tls_paths(config), lambda: _read(config)) if config.tls else None
        self._token: Reloading[str] | None = None
        if config.tls and config.tls.key:
            warn_if_exposed("uplink.tls.key", Path(config.tls.key).expanduser())
        if config.token_file:
            path = Path(config.token_file).expanduser()
            self._token = Reloading([path], lambda: _read_token(path))
            warn_if_exposed("uplink.token_file", path)
        self._in_use = self._tls.get() if self._tls else None
        self._remind_at_s = 0.0
        self._advised: tuple[str, float] = ("", -_SAME_ADVICE_S)

    def renewed(self) -> bool:
        """Load changed certificates; tell whether there were any, which require a new channel."""
        if self._tls is None or (fresh := self._tls.get()) is self._in_use:
            return False
        self._in_use = fresh
        self._remind_at_s = 0.0
        return True

    def channel(self, options: Options) -> grpc.Channel:
        """A new channel to the configured address."""
        address, tls = self._config.address, self._config.tls
        if not (tls and self._in_use):
            return grpc.insecure_channel(address, options)
        device = self._in_use.device
        pair = (device.key_pem, device.certificate_pem) if device else (None, None)
        credentials = grpc.ssl_channel_credentials(self._in_use.ca_pem, *pair)
        override = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
        return grpc.secure_channel(address, credentials, [*options, *override])

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a call that starts now."""
        token = self._token.get() if self._token else self._config.token
        return (("authorization", f"Bearer {token}"),) if token else ()

    def expires_unix_s(self) -> float:
        """When the device's certificate expires, in Unix time; NaN without one."""
        device = self._in_use.device if self._in_use else None
        return device.valid_until.timestamp() if device else float("nan")

    def why_no_connection(self, details: str) -> str:
        """What gRPC's `details` of a failed call mean with these certificates; empty when it is not TLS."""
        return explain(details, self._in_use.device, _now()) or "" if self._in_use else ""

    def note_failure(self, status: grpc.StatusCode, details: str) -> None:
        """Log advice for a call that failed because of an identity; the same advice once in ten minutes."""
        if status in _REFUSALS:
            advice = f"the server does not accept this device's identity: {details}"
        elif status is grpc.StatusCode.UNAVAILABLE:
            advice = self.why_no_connection(details)
        else:
            return
        last, at_s = self._advised
        now_s = time.monotonic()
        if advice and (advice[:40] != last[:40] or now_s - at_s >= _SAME_ADVICE_S):
            self._advised = (advice, now_s)
            _log.error("no secure connection", because=advice)

    def remind(self) -> None:
        """Log, once a day and after each change, if the certificate expires soon or is not valid now."""
        now_s = time.monotonic()
        if now_s < self._remind_at_s:
            return
        self._remind_at_s = now_s + _REMINDER_S
        device, now = self._in_use.device if self._in_use else None, _now()
        if device and not device.valid_from <= now <= device.valid_until:
            _log.error("certificate does not hold now", because=explain("", device, now))
        elif device and device.ends_soon(now):
            _log.warning("certificate ends soon; renew it", days_left=round(device.days_left(now), 1))


def channel_options(config: UplinkConfig) -> list[tuple[str, int]]:
    """Options of the channel (names: grpc_types.h of gRPC core).

    A server closes connections that ping more often than it permits; it must permit one ping every 10 s
    without data. Retries are off, because only the edge knows whether a second try can still meet the
    deadline.
    """
    return [
        ("grpc.keepalive_time_ms", round(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 500),
        # Despite its name, the minimum time for one connection attempt; the default is 20 s.
        ("grpc.min_reconnect_backoff_ms", 3000),
        ("grpc.max_reconnect_backoff_ms", round(config.reconnect_backoff_max_s * 1000)),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.enable_retries", 0),
        # Without this, a new channel would share the dead connection of the channel that it replaces.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _tls_paths(config: UplinkConfig) -> list[Path]:
    tls = config.tls
    names = (tls.ca, tls.certificate, tls.key) if tls else ()
    return [Path(name).expanduser() for name in names if name]


def _read(config: UplinkConfig) -> _TlsFiles:
    from spillover.common.net.tls import load_certificates, load_key_pair

    ca, *pair = _tls_paths(config)
    ca_pem = read_file(ca, "uplink.tls.ca")
    load_certificates(ca_pem, f"uplink.tls.ca: {ca}")
    return _TlsFiles(ca_pem, load_key_pair(pair[0], pair[1], "uplink.tls") if pair else None)


def _read_token(path: Path) -> str:
    return read_secret(path, "uplink.token_file")


def _now() -> datetime:
    return datetime.now(UTC)
