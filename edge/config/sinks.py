"""The keys of the sinks: where results go."""

import enum
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec

from spillover.common.config import Mistake, Section
from spillover.common.net.addresses import web_address_fault
from spillover.edge.config.kinds import Count, NotNegative


class DecisionDetail(enum.Enum):
    """How much of a decision is written."""

    SHORT = "short"
    """Without `decision.inputs`, which is most of a record."""
    FULL = "full"
    """Every number that the policy has read, which `spillover lab replay` needs."""


class JsonLinesConfig(Section, frozen=True, tag_field="kind", tag="jsonl"):
    """Appends one JSON object per line to a file or standard output."""

    path: str = "-"
    """A file, or `-` for standard output."""
    events: bool = True
    """Also write events: dropped frames, camera, breaker, spool. `spillover lab check` needs them."""
    decision: DecisionDetail = DecisionDetail.SHORT
    """How much of each decision is written."""
    rotate_mb: NotNegative = 100.0
    """Begin a new file at this size; 0: never, so that the file grows without bound."""
    rotate_keep: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Old files to keep, as `path.1` (the newest), `path.2` and so on."""
    queue_size: Count = 1024
    """Results that may wait to be written; more are dropped and counted."""


class SqliteConfig(Section, frozen=True, tag_field="kind", tag="sqlite"):
    """Keeps the last days in an SQLite file, which can be queried while the daemon runs."""

    path: str
    """The database file."""
    decision: DecisionDetail = DecisionDetail.SHORT
    """How much of each decision is written."""
    keep_days: Annotated[float, msgspec.Meta(gt=0)] = 7.0
    """Delete what is older than this many days."""
    max_mb: Annotated[float, msgspec.Meta(ge=1)] = 1000.0
    """Delete the oldest rows when the file and its write-ahead log have this size."""
    queue_size: Count = 1024
    """Results that may wait to be written; more are dropped and counted."""


class MqttConfig(Section, frozen=True, tag_field="kind", tag="mqtt"):
    """Publishes to an MQTT broker."""

    host: str
    """Host name or address of the broker."""
    port: Annotated[int, msgspec.Meta(gt=0, lt=65536)] = 1883
    """Port of the broker; with TLS usually 8883."""
    username: str = ""
    """Empty: no login."""
    password: str = ""
    """The password, as in `${MQTT_PASSWORD}`; empty: that of `password_file`, or none."""
    password_file: str = ""
    """A file that holds the password and nothing else; read before each connection."""
    ca: str = ""
    """PEM file of the CA that signed the broker's certificate; empty: no encryption."""
    topic: Annotated[
        str, msgspec.Meta(pattern=r"^[^+#\n]{1,1000}\Z", description="a line of text without + and #")
    ] = "spillover"
    """Every topic begins with this."""
    discovery_prefix: str = "homeassistant"
    """Where Home Assistant looks for devices; empty: announce nothing."""
    snapshots: bool = False
    """Also publish the pictures of `evidence`, with boxes: the newest one of each camera."""
    decision: DecisionDetail = DecisionDetail.SHORT
    """How much of each decision is published."""
    queue_size: Count = 256
    """Results and events that may wait for the broker; the oldest of more are dropped and counted."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a URL as host, two passwords, and a password of nobody."""
        return self._host(), self._passwords()

    def _host(self) -> Iterator[Mistake]:
        if not self.host or set("/@ ") & set(self.host):
            yield (
                "host",
                "must be a host name or an address alone, such as broker.local, and no URL; "
                "port, username and ca (for TLS) are keys of their own",
            )

    def _passwords(self) -> Iterator[Mistake]:
        if self.password and self.password_file:
            yield "password", "password and password_file both hold the password; set one of them"
        if (self.password or self.password_file) and not self.username:
            yield "username", "is missing: a password needs its user"


class WebhookConfig(Section, frozen=True, tag_field="kind", tag="webhook"):
    """Posts events, or results too, as JSON to a URL, signed."""

    url: str
    """https://host/path, or http:// in a network that is trusted; `${NAME}` where it is a secret itself."""
    secret_file: str
    """A file that holds the signature's secret, as `whsec_...` or plain text; read before each request."""
    ca: str = ""
    """PEM file of the CA that signed the server's certificate; empty: those that the system trusts."""
    events: Literal["objects", "all"] = "objects"
    """`objects`: what tracked objects do, and their evidence. `all`: also cameras, breaker, spool, counts."""
    results: bool = False
    """Also post every result and revision."""
    decision: DecisionDetail = DecisionDetail.SHORT
    """How much of each decision is posted."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=30)] = 5.0
    """How long the server may take to answer."""
    queue_size: Count = 256
    """Events and results that may wait for the server; the oldest of more are dropped and counted."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse what is no URL of a web server."""
        return (self._url(),)

    def _url(self) -> Iterator[Mistake]:
        if fault := web_address_fault(self.url):
            yield "url", fault  # which does not show it: it may be a secret


class OtelConfig(Section, frozen=True, tag_field="kind", tag="otel"):
    """Sends traces of frames to an OpenTelemetry collector, by OTLP over gRPC. It takes no results away."""

    endpoint: str
    """http://host:4317, or https:// for an encrypted connection."""
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01
    """Of all frames so many are traced, on both sides; which ones follows from their `frame_id`."""
    always: tuple[Literal["degraded", "revision", "audit"], ...] = ("degraded", "revision")
    """Of which results else: those whose cloud answer was wanted and is missing, late answers, audits. The
    server learns of the share alone."""
    queue_size: Count = 256
    """Results that may wait for the collector; the oldest of more are dropped and counted."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse what is no URL."""
        return (self._url(),)

    def _url(self) -> Iterator[Mistake]:
        if fault := web_address_fault(self.endpoint):
            yield "endpoint", fault


SinkConfig = JsonLinesConfig | SqliteConfig | MqttConfig | WebhookConfig | OtelConfig
