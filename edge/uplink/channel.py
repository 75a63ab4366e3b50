"""The channel to the cloud and what proves who calls: TLS and token, both following their files."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from spillover.common.log import get_logger
from spillover.common.net.reload import Reloading, read_file
from spillover.edge.config import UplinkConfig
from spillover.edge.uplink.connect_meter import ConnectMeter
from spillover.edge.uplink.tls_diagnosis import explain

if TYPE_CHECKING:
    from spillover.common.net.tls import (  # loads a library that an uplink in the clear need not carry
        KeyPair,
    )
    from spillover.edge.uplink.protocol import Method

_log = get_logger("uplink")

_REMINDER_S = 24 * 3600.0
_SAME_ADVICE_S = 600.0
_REFUSALS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)

Options = Sequence[tuple[str, int]]
MethodOf = Callable[[grpc.Channel], "Method"]


@dataclass(frozen=True, slots=True, eq=False)
class _Secrets:
    """What the files of `uplink.tls` hold."""

    ca_pem: bytes
    own: "KeyPair | None"


class Connection:
    """One channel, which is not closed under its calls."""

    def __init__(self, channel: grpc.Channel, method: "Method", attempts: ConnectMeter | None) -> None:
        self.method = method
        self._attempts = attempts
        self._channel = channel
        self._lock = threading.Lock()
        self._calls = 0

    def track(self, call: "grpc.Future[Any]") -> None:
        """Count a call until it ends."""
        if self._attempts:
            self._attempts.called()
        with self._lock:
            self._calls += 1
        call.add_done_callback(self._landed)

    @property
    def is_idle(self) -> bool:
        """Whether every call has ended."""
        with self._lock:
            return not self._calls

    @property
    def has_failed(self) -> bool:
        """Whether it found nobody, where attempts are counted."""
        return self._attempts is not None and self._attempts.failed

    def close(self) -> None:
        """Cancel what is under way."""
        self._channel.close()
        if self._attempts:
            self._attempts.closed()

    def _landed(self, _: object) -> None:
        with self._lock:
            self._calls -= 1


class Connections:
    """Gives the connection for the next call: a new one when certificates have changed.

    `method_of` picks the method that is called on a channel. `attempts` makes what counts attempts to
    connect, one for each channel, which hears of them on a thread of gRPC's. All methods but `note_failure`
    belong to one thread.

    Raises:
        ConfigError: a file cannot be read, or certificate and key do not belong together.
    """

    def __init__(
        self, config: UplinkConfig, method_of: MethodOf, attempts: Callable[[], ConnectMeter] | None = None
    ) -> None:
        self._attempts = attempts
        self._config = config
        self._options = channel_options(config)
        self._method_of = method_of
        self._secrets = Reloading(_tls_paths(config), lambda: _read(config)) if config.tls else None
        self._token: Reloading[str] | None = None
        if config.token_file:
            path = Path(config.token_file).expanduser()
            self._token = Reloading([path], lambda: _read_token(path))
        self._used = self._secrets.get() if self._secrets else None
        self._current = self._open()
        self._retired: list[Connection] = []
        self._remind_at_s = 0.0
        self._advised: tuple[str, float] = ("", -_SAME_ADVICE_S)
        self._remind()

    def current(self) -> Connection:
        """The connection for a call that begins now."""
        if self._secrets and (found := self._secrets.get()) is not self._used:
            self._used = found
            self._retired.append(self._current)
            self._current = self._open()
            self._remind_at_s = 0.0
        self._remind()
        self.drop_failed()
        return self._current

    def renew(self) -> None:
        """Connect anew, at once: the connection that is there has been found dead, and its calls with it."""
        self._current.close()
        self._current = self._open()

    def drop_failed(self) -> None:
        """Keep no channel that would try again by itself, unpaid; calls still under way may end."""
        if self._current.has_failed:
            self._retired.append(self._current)
            self._current = self._open()
        for connection in [one for one in self._retired if one.is_idle]:
            self._retired.remove(connection)
            connection.close()

    @property
    def has_retired(self) -> bool:
        """Whether a connection waits for its last calls."""
        return bool(self._retired)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call that begins now carries beside its message."""
        return (("authorization", f"Bearer {self._token.get()}"),) if self._token else ()

    def days_left(self) -> float:
        """Days until the device's certificate ends; not a number when it has none."""
        own = self._used.own if self._used else None
        return own.days_left(_now()) if own else float("nan")

    def note_failure(self, status: grpc.StatusCode, details: str) -> None:
        """Log why a call failed when it is a matter of identity; the same advice once in ten minutes."""
        if status in _REFUSALS:
            advice = f"the server does not accept this device's identity: {details}"
        elif status is grpc.StatusCode.UNAVAILABLE and self._used:
            advice = explain(details, self._used.own, _now()) or ""
        else:
            return
        last, at_s = self._advised
        now_s = time.monotonic()
        if advice and (advice[:40] != last[:40] or now_s - at_s >= _SAME_ADVICE_S):
            self._advised = (advice, now_s)
            _log.error("no secure connection", because=advice)

    def close(self) -> None:
        """Close every connection; their calls are cancelled."""
        for connection in (*self._retired, self._current):
            connection.close()

    def _open(self) -> Connection:
        channel = self._channel()
        attempts = self._attempts() if self._attempts else None
        if attempts:
            channel.subscribe(attempts.changed)
        return Connection(channel, self._method_of(channel), attempts)

    def _channel(self) -> grpc.Channel:
        address, tls = self._config.address, self._config.tls
        if not (tls and self._used):
            return grpc.insecure_channel(address, self._options)
        own = self._used.own
        credentials = grpc.ssl_channel_credentials(
            self._used.ca_pem, own.key_pem if own else None, own.certificate_pem if own else None
        )
        named = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
        return grpc.secure_channel(address, credentials, [*self._options, *named])

    def _remind(self) -> None:
        """Once a day, and after a change, say so if the certificate ends soon or does not hold now."""
        now_s = time.monotonic()
        if now_s < self._remind_at_s:
            return
        self._remind_at_s = now_s + _REMINDER_S
        own, now = self._used.own if self._used else None, _now()
        if own and not own.valid_from <= now <= own.valid_until:
            _log.error("certificate does not hold now", because=explain("", own, now))
        elif own and own.ends_soon(now):
            _log.warning("certificate ends soon; renew it", days_left=round(own.days_left(now), 1))


def channel_options(config: UplinkConfig) -> list[tuple[str, int]]:
    """Options of the channel (names: grpc_types.h of gRPC core).

    A ping oftener than the server permits ends the connection: the server is to allow one every 10 s without
    data. Retries are off, because only the edge knows whether a second try can still meet the deadline.
    """
    return [
        ("grpc.keepalive_time_ms", round(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 500),
        # Despite its name, the least time that one attempt to connect is given; the default is 20 s.
        ("grpc.min_reconnect_backoff_ms", 3000),
        ("grpc.max_reconnect_backoff_ms", round(config.reconnect_backoff_max_s * 1000)),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.enable_retries", 0),
        # Otherwise a new channel would share the dead connection of the one that it replaces.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _tls_paths(config: UplinkConfig) -> list[Path]:
    tls = config.tls
    names = (tls.ca, tls.certificate, tls.key) if tls else ()
    return [Path(name).expanduser() for name in names if name]


def _read(config: UplinkConfig) -> _Secrets:
    from spillover.common.net.tls import load_certificates, load_key_pair

    ca, *own = _tls_paths(config)
    ca_pem = read_file(ca, "uplink.tls.ca")
    load_certificates(ca_pem, f"uplink.tls.ca: {ca}")
    return _Secrets(ca_pem, load_key_pair(own[0], own[1], "uplink.tls") if own else None)


def _read_token(path: Path) -> str:
    return read_file(path, "uplink.token_file").decode("ascii", errors="replace").strip()


def _now() -> datetime:
    return datetime.now(UTC)
