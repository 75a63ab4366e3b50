"""What `cloud.yaml` may say. Every key is explained in examples/cloud.yaml."""

import enum
from pathlib import Path
from typing import Annotated

import msgspec

from spillover.cloud.security.roles import DEFAULT_ROLES, Permission
from spillover.common.config import Section
from spillover.common.home import models_home
from spillover.common.model.session_config import SessionConfig
from spillover.common.net.addresses import check_host_port, is_loopback

PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Address = Annotated[str, msgspec.Meta(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}$")]


class ModelsConfig(Section, frozen=True):
    """Which models are served, and from where."""

    repository: str = ""
    """The folder of `<name>/<version>/model.onnx`; empty is where `spillover lab prepare` puts models."""
    load: tuple[str, ...] = ()
    """`name` (its newest version) or `name@version`; empty loads the newest version of every model."""
    default: str = ""
    """Answers requests that name no model; empty: the first of `load`, or the only one there is."""
    tails: bool = True
    """Load the tails of split models too; without, devices that send features are told to send pictures."""

    @property
    def repository_path(self) -> Path:
        """The repository's folder, with `~` and the default resolved."""
        return Path(self.repository).expanduser() if self.repository else models_home()


class BatchingConfig(Section, frozen=True):
    """How requests of one model are brought together."""

    max_batch_size: PositiveInt = 8
    """Most rows in one run of the network; 1 runs every request by itself."""
    max_queue_delay_s: Seconds = 0.0
    """How long an idle instance waits for more rows before it runs what is there; 0 never waits."""
    preferred_sizes: tuple[PositiveInt, ...] = ()
    """Batch sizes at which an instance stops waiting early."""
    instances: PositiveInt = 1
    """Batches of one model that may run at the same time."""
    max_pending: PositiveInt = 64
    """Requests of one model admitted and not yet answered; one more is refused."""


class ExecutorConfig(Section, frozen=True):
    """The threads that decode pictures and predictions."""

    workers: NonNegativeInt = 0
    """Number of threads; 0 is one a core."""


class LimitsConfig(Section, frozen=True):
    """What one request, and one device, may cost."""

    max_message_bytes: PositiveInt = 16 * 1024 * 1024
    max_pixels: PositiveInt = 50_000_000
    max_tensor_elements: PositiveInt = 16 * 1024 * 1024
    """Elements of all inputs of one request for a network itself."""
    max_unpacked_elements: PositiveInt = 262_144
    """Of those, BYTES and typed contents, which are unpacked one by one and hold up everybody meanwhile."""
    device_rate_per_s: Seconds = 0.0
    """Requests a second that one device may send on average; 0 is no limit."""
    device_burst: PositiveInt = 32
    """Requests that a device may send at once after a pause."""
    max_connections: PositiveInt = 1024
    max_streams: PositiveInt = 128
    """Calls of one connection at the same time; a client waits with the next one."""
    max_stream_requests: PositiveInt = 32
    """Requests of one stream that are worked on at the same time; beyond, it is read no further."""
    handshake_timeout_s: PositiveSeconds = 10.0
    """A connection that has not said what it wants by then is closed."""
    max_connection_age_s: PositiveSeconds = 3600.0
    """Then a connection is asked to end, and made again: with certificates and rules as they are by then."""
    max_connection_age_grace_s: PositiveSeconds = 60.0
    """How long its calls may still take; what is not over by then is cut off: a message that drips, say."""
    min_ping_interval_s: PositiveSeconds = 10.0
    """A client that pings more often is sent away."""


class TlsConfig(Section, frozen=True):
    """Encryption, and with `client_ca` mutual authentication. The files are read again when they change."""

    certificate: str
    """The server's certificate, PEM, followed by its intermediates if it has any."""
    key: str
    """The certificate's private key, PEM."""
    client_ca: str = ""
    """Callers must show a certificate that a CA in this PEM file has signed; empty asks for none."""
    crl: str = ""
    """Revoked client certificates: a list in PEM, signed by the CA."""

    def __post_init__(self) -> None:
        """Refuse what would have no effect."""
        if self.crl and not self.client_ca:
            raise ValueError("crl is of no use without client_ca")


class SecurityConfig(Section, frozen=True):
    """Who may connect, who they are, and what they may do."""

    tls: TlsConfig | None = None
    """Null serves in the clear, which needs a loopback address or `allow_plaintext_network`."""
    tokens_file: str = ""
    """Callers must send a token of this file; `spillover cloud tokens` writes it."""
    roles: dict[str, tuple[Permission, ...]] = msgspec.field(default_factory=lambda: dict(DEFAULT_ROLES))
    """What each role may do: infer, control (of the repository), metrics."""
    allow_plaintext_network: bool = False
    allow_anonymous_network: bool = False

    def __post_init__(self) -> None:
        """Refuse two sources of identity."""
        if self.tokens_file and self.tls and self.tls.client_ca:
            raise ValueError("tls.client_ca and tokens_file both say who a caller is; set one of them")

    @property
    def proves_callers(self) -> bool:
        """Whether callers must prove who they are."""
        return bool(self.tokens_file or (self.tls and self.tls.client_ca))

    def check_address(self, key: str, address: str) -> None:
        """Raise ValueError when `address`, the value of `key`, is open to the network and not asked to be."""
        if is_loopback(address):
            return
        if self.tls is None and not self.allow_plaintext_network:
            raise ValueError(
                f"{key}: {address} can be reached from the network: set security.tls, "
                "or security.allow_plaintext_network: true to send everything in the clear"
            )
        if not (self.proves_callers or self.allow_anonymous_network):
            raise ValueError(
                f"{key}: {address} can be reached from the network: set security.tls.client_ca or "
                "security.tokens_file, or security.allow_anonymous_network: true to answer everybody"
            )


class LogLevel(enum.Enum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogConfig(Section, frozen=True):
    """The log, on standard error."""

    level: LogLevel = LogLevel.INFO
    json: bool = False


class CloudConfig(Section, frozen=True):
    """The content of `cloud.yaml`."""

    listen: Address = "127.0.0.1:50051"
    models: ModelsConfig = ModelsConfig()
    session: SessionConfig = SessionConfig()
    batching: BatchingConfig = BatchingConfig()
    batching_of: dict[str, BatchingConfig] = msgspec.field(default_factory=dict)
    """Replaces `batching` for the models named."""
    executor: ExecutorConfig = ExecutorConfig()
    limits: LimitsConfig = LimitsConfig()
    security: SecurityConfig = msgspec.field(default_factory=SecurityConfig)
    metrics: Address | None = "127.0.0.1:9464"
    drain_timeout_s: PositiveSeconds = 10.0
    log: LogConfig = LogConfig()

    def __post_init__(self) -> None:
        """Refuse ports that do not exist, and to be open to the network by mistake."""
        for key, address in (("listen", self.listen), ("metrics", self.metrics)):
            if address:
                check_host_port(key, address)
        self.security.check_address("listen", self.listen)
        if self.metrics:
            self.security.check_address("metrics", self.metrics)
