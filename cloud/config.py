"""The keys of `cloud.yaml`. docs/reference/cloud.yaml.md is generated from this file."""

import enum
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from spillover.cloud.security.roles import DEFAULT_ROLES, Permission
from spillover.common.config import Mistake, Section
from spillover.common.home import models_home
from spillover.common.model.session_config import SessionConfig
from spillover.common.net.addresses import UNIX, address_fault, web_address_fault
from spillover.common.security.config import KeyPairConfig, ListenerSecurity

PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Address = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$",
        description="host:port, as in 127.0.0.1:9464 or [::1]:9464",
    ),
]
ListenAddress = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(unix:/.+|(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5})$",
        description="host:port or unix:/path, as in 127.0.0.1:50051 or [::1]:50051",
    ),
]


class ModelsConfig(Section, frozen=True):
    """Which models are served, and from which folder."""

    repository: str = ""
    """The folder tree `<name>/<version>/model.onnx`; empty: where `spillover lab prepare` puts models."""
    load: tuple[str, ...] = ()
    """What to load: `name` (newest version) or `name@version`; empty: the newest of every model."""
    default: str = ""
    """Which model answers requests that name none; empty: the first of `load`, or the only one."""
    tails: bool = True
    """Also load the tails of split models. Without them, features are refused and devices send pictures."""
    load_timeout_s: PositiveSeconds = 60.0
    """How long a version may take to load and to run once, in a process of its own; else it is refused."""

    @property
    def repository_path(self) -> Path:
        """The repository's folder, with `~` and the default resolved."""
        return Path(self.repository).expanduser() if self.repository else models_home()


class BatchingConfig(Section, frozen=True):
    """How waiting requests of one model are run together."""

    max_batch_size: PositiveInt = 8
    """The most rows in one run of the network; 1: run every request by itself."""
    max_queue_delay_s: Seconds = 0.0
    """How long an idle instance waits for more rows; 0: not at all."""
    preferred_sizes: tuple[PositiveInt, ...] = ()
    """Batch sizes at which an instance stops waiting."""
    instances: PositiveInt = 1
    """Batches of one model that may run at the same time."""
    max_pending: PositiveInt = 64
    """Requests of one model that are admitted and not yet answered; one more is refused."""


class ExecutorConfig(Section, frozen=True):
    """The threads that decode pictures and predictions, and unpack what is large."""

    workers: NonNegativeInt = 0
    """Number of threads; 0: one per core."""


class LimitsConfig(Section, frozen=True):
    """What one request, one device, one connection and all of them together may use."""

    memory_bytes: NonNegativeInt = 0
    """Bytes of all calls in flight: messages being received, in work, and answers that are not yet read.

    One caller may have a quarter of it, all callers without an identity half. 0: a quarter of what the
    machine, or the control group, has.
    """
    stream_bytes: NonNegativeInt = 256 * 1024 * 1024
    """Bytes of all streams: decoders, and pictures and features against which devices code their next ones.

    They come on top of `memory_bytes`, and stay taken while streams are idle. A stream of 416x312 pixels
    takes 2.5 MB. One caller may have a quarter of it, all callers without an identity half; who finds no room
    sends JPEGs. 0: no streams.
    """
    max_message_bytes: PositiveInt = 16 * 1024 * 1024
    """Longest message, in and out."""
    max_pixels: PositiveInt = 25_000_000
    """Largest picture, width times height; read from the JPEG's header before it is decoded."""
    max_tensor_elements: PositiveInt = 16 * 1024 * 1024
    """Elements of all input tensors of one request."""
    max_unpacked_elements: PositiveInt = 262_144
    """Of those, strings and typed contents: unpacked one by one, 100 times slower than raw bytes."""
    device_rate_per_s: Seconds = 0.0
    """Requests per second of one device, on average; 0: no limit."""
    device_burst: PositiveInt = 32
    """Requests that a device may send at once after a pause."""
    max_connections: PositiveInt = 1024
    """Connections at the same time. For one more an idle one is closed, first those without an identity."""
    max_connections_per_address: NonNegativeInt = 0
    """Of those that have proven no identity, how many from one address, or IPv6 /64; 0: half of all.

    Many devices share one address behind a router that translates addresses, and all of them behind a
    balancer; there they are strangers until their first call.
    """
    max_connections_per_identity: PositiveInt = 64
    """Connections that have proven the same identity."""
    idle_timeout_s: PositiveSeconds = 30.0
    """A connection without a call for so long is closed, unless it has proven an identity."""
    max_streams: PositiveInt = 64
    """Calls of one connection at the same time; the client waits with the next one."""
    max_stream_requests: PositiveInt = 32
    """Requests of one stream in work at the same time; the stream is not read while there are as many."""
    handshake_timeout_s: PositiveSeconds = 10.0
    """A connection that has not finished its handshake by then is closed."""
    body_timeout_s: PositiveSeconds = 15.0
    """How long a call may wait for memory, and then how long its message may take to arrive."""
    write_timeout_s: PositiveSeconds = 30.0
    """A call whose answer has not been read by then is cut off."""
    max_connection_age_s: PositiveSeconds = 3600.0
    """A connection of this age is asked to end; the client reconnects, with its newest certificate."""
    max_connection_age_grace_s: PositiveSeconds = 60.0
    """How long calls on such a connection may still take before they are cut off."""
    min_ping_interval_s: PositiveSeconds = 10.0
    """A client that pings more often is disconnected."""


class TlsConfig(KeyPairConfig, frozen=True):
    """Encryption, and with `client_ca` mutual authentication. The files are read again when they change."""

    client_ca: str = ""
    """PEM file of CAs; callers must show a certificate that one of them signed. Empty: none is needed."""
    crl: str = ""
    """PEM file with the list of revoked client certificates, signed by the CA."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse what would have no effect."""
        return (self._revocation(),)

    def _revocation(self) -> Iterator[Mistake]:
        if self.crl and not self.client_ca:
            yield "crl", "is of no use without client_ca"


class ForwardedConfig(Section, frozen=True):
    """Callers whose handshake was with a proxy, which passes their certificates on; they are checked again.

    Believed is Envoy's header `x-forwarded-client-cert` over a Unix socket, and from a caller whose own
    certificate, by `tls.client_ca`, has the role `proxy`. Anybody else who sends it is refused.
    """

    client_ca: str
    """PEM file of CAs; callers must have shown the proxy a certificate that one of them signed."""
    crl: str = ""
    """PEM file with the list of revoked certificates, signed by the CA."""


class SecurityConfig(ListenerSecurity, frozen=True):
    """Who may connect, who they are, and what they may do."""

    proofs: ClassVar[str] = "security.tls.client_ca or security.tokens_file"

    tls: TlsConfig | None = None
    """Null: no encryption, which needs a loopback address or `allow_plaintext_network`."""
    forwarded: ForwardedConfig | None = None
    """What is believed of a proxy in front. Null: nothing; a call that claims a certificate is refused."""
    tokens_file: str = ""
    """Callers must send a token of this file, which `spillover cloud tokens` writes."""
    roles: dict[str, tuple[Permission, ...]] = msgspec.field(default_factory=lambda: dict(DEFAULT_ROLES))
    """What each role may do. A certificate's role is its organizational unit (none: device)."""
    allow_anonymous_network: bool = False
    """Answer callers beyond this machine who prove nothing, with the permissions of role `anonymous`."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse certificates and tokens together, because both identify the caller."""
        return self._tokens_or_tls(), self._tokens_or_forwarded()

    def _tokens_or_tls(self) -> Iterator[Mistake]:
        if self.tokens_file and self.tls and self.tls.client_ca:
            yield "tokens_file", "tls.client_ca and tokens_file both say who a caller is; set one of them"

    def _tokens_or_forwarded(self) -> Iterator[Mistake]:
        if self.tokens_file and self.forwarded:
            yield "tokens_file", "forwarded and tokens_file both say who a caller is; set one of them"

    @property
    def proves_callers(self) -> bool:
        """Whether callers must prove who they are."""
        return bool(self.tokens_file or (self.tls and self.tls.client_ca))


class LogLevel(enum.Enum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogConfig(Section, frozen=True):
    """The log, on standard error."""

    level: LogLevel = LogLevel.INFO
    """The least serious entries that are written."""
    json: bool = False
    """Write each entry as one JSON object, for machines."""
    access: bool = False
    """Also write a JSON line for each call: who, from where, method, payload, status, seconds, bytes.

    It grows with all calls, refused ones included; what keeps the log must bound it, as journald does."""


class TracesConfig(Section, frozen=True):
    """Where spans of calls go that belong to a trace of their caller's."""

    endpoint: str
    """http://host:4317 of an OpenTelemetry collector (OTLP over gRPC), or https://."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse what is no URL."""
        return (self._url(),)

    def _url(self) -> Iterator[Mistake]:
        if fault := web_address_fault(self.endpoint):
            yield "endpoint", fault


class CloudConfig(Section, frozen=True):
    """The whole of `cloud.yaml`."""

    reads_environment: ClassVar[bool] = True

    listen: ListenAddress = "127.0.0.1:50051"
    """`host:port` for calls, or `unix:/path`: a socket for this machine's user and group alone, mode 0660.

    Port 0: the system chooses; the log and `--ready-file` name the port.
    """
    models: ModelsConfig = ModelsConfig()
    """Which models are served, and from which folder."""
    session: SessionConfig = SessionConfig()
    """How ONNX Runtime runs a model."""
    batching: BatchingConfig = BatchingConfig()
    """How waiting requests of one model are run together."""
    batching_of: dict[str, BatchingConfig] = msgspec.field(default_factory=dict)
    """A whole `batching` section for single models, by name."""
    executor: ExecutorConfig = ExecutorConfig()
    """The threads that decode pictures and predictions."""
    limits: LimitsConfig = LimitsConfig()
    """What one request, one device and one connection may use."""
    security: SecurityConfig = msgspec.field(default_factory=SecurityConfig)
    """Who may connect, who they are, and what they may do."""
    metrics: Address | None = "127.0.0.1:9464"
    """`host:port` of the HTTP pages `/metrics` (Prometheus), `/livez` and `/readyz`; null: none."""
    traces: TracesConfig | None = None
    """Where spans of traced calls go; null: nowhere. It needs the extra `otel`."""
    stop_timeout_s: PositiveSeconds = 15.0
    """On stop, seconds until the process ends. Calls in flight have 80 % of it; what hangs is left behind."""
    log: LogConfig = LogConfig()
    """The log, on standard error."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse ports that do not exist, and a server that is open to the network by mistake."""
        return self._calls(), self._pages(), self._forwarded()

    def _calls(self) -> Iterator[Mistake]:
        yield from self._address("listen", self.listen)

    def _pages(self) -> Iterator[Mistake]:
        if self.metrics:
            yield from self._address("metrics", self.metrics)

    def _address(self, key: str, address: str) -> Iterator[Mistake]:
        if fault := address_fault(address):
            yield key, fault
        else:
            yield from ((key, text) for text in self.security.openness(address))

    def _forwarded(self) -> Iterator[Mistake]:
        tls = self.security.tls
        if self.security.forwarded and not (self.listen.startswith(UNIX) or (tls and tls.client_ca)):
            yield (
                "security.forwarded",
                f"anybody at {self.listen} could pass a certificate on: listen on "
                "unix:/path, or set security.tls.client_ca, which tells the proxy by its own certificate",
            )
