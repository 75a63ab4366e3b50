"""Where results go."""

from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.edge.config.kinds import Count, NotNegative


class JsonLinesConfig(Section, frozen=True, tag_field="kind", tag="jsonl"):
    """A sink that appends one JSON object a line."""

    path: str = "-"
    """A file, or `-` for standard output."""
    events: bool = True
    """Also what happens besides results: dropped frames, camera, breaker, spool. `lab check` needs them."""
    rotate_mb: NotNegative = 0.0
    """Begin a new file when this size is reached; 0 is never."""
    rotate_keep: Annotated[int, msgspec.Meta(ge=1)] = 5
    """How many old files stay, as `path.1` (the newest) and on."""
    queue_size: Count = 1024


class SqliteConfig(Section, frozen=True, tag_field="kind", tag="sqlite"):
    """A sink that keeps the last days in an SQLite file, to be queried while the daemon runs."""

    path: str
    keep_days: Annotated[float, msgspec.Meta(gt=0)] = 7.0
    queue_size: Count = 1024


class MqttConfig(Section, frozen=True, tag_field="kind", tag="mqtt"):
    """A sink that publishes to an MQTT broker; docs/mqtt.md names the topics."""

    host: str
    port: Annotated[int, msgspec.Meta(gt=0, lt=65536)] = 1883
    username: str = ""
    password_file: str = ""
    ca: str = ""
    """PEM of the CA that signed the broker's certificate; empty is in the clear."""
    topic: Annotated[str, msgspec.Meta(pattern="^[^+#]+$")] = "spillover"
    """What every topic begins with."""
    discovery_prefix: str = "homeassistant"
    """Where Home Assistant looks for devices; empty announces nothing."""
    queue_size: Count = 256
    """Also how many messages wait for a broker that is away."""


SinkConfig = JsonLinesConfig | SqliteConfig | MqttConfig
