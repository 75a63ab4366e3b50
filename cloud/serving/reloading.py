"""Which keys of `cloud.yaml` a running server follows after SIGHUP, and which need a restart."""

from spillover.cloud.config import CloudConfig
from spillover.common.config import changed_keys

FOLLOWED = frozenset(
    {
        "batching",
        "batching_of",
        "limits.device_burst",
        "limits.device_rate_per_s",
        "limits.idle_timeout_s",
        "limits.max_connections_per_address",
        "limits.max_connections_per_identity",
        "limits.max_pixels",
        "models.default",
        "models.load",
        "models.load_timeout_s",
        "models.tails",
        "session",
    }
)
"""Sections and single keys that are in force once the log says `reloaded`."""

NEEDS_RESTART = frozenset(
    {
        "executor.workers",
        "limits.body_timeout_s",
        "limits.handshake_timeout_s",
        "limits.max_connection_age_grace_s",
        "limits.max_connection_age_s",
        "limits.max_connections",
        "limits.max_message_bytes",
        "limits.max_stream_requests",
        "limits.max_streams",
        "limits.max_tensor_elements",
        "limits.max_unpacked_elements",
        "limits.memory_bytes",
        "limits.min_ping_interval_s",
        "limits.stream_bytes",
        "limits.write_timeout_s",
        "listen",
        "log",
        "metrics",
        "models.repository",
        "security",
        "stop_timeout_s",
        "traces",
    }
)
"""Sections and single keys that are fixed when the server starts. A key is in one of the two, or its section
is; a test holds them against the structures."""


def changed_for_a_restart(started: CloudConfig, wanted: CloudConfig) -> list[str]:
    """The keys in which `wanted` differs from what a server was started with, and that it does not follow."""
    return sorted(key for key in changed_keys(started, wanted) if not _follows(key))


def _follows(key: str) -> bool:
    return key in FOLLOWED or key.partition(".")[0] in FOLLOWED
