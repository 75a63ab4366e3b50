"""A status of a healthy daemon, to be changed by tests."""

from typing import Any

import msgspec

from spillover.edge.health.readings import DiskSpace, Readings
from spillover.edge.status.values import (
    CameraStatus,
    FrameStatus,
    LinkStatus,
    ModelStatus,
    SinkStatus,
    SpoolStatus,
    Status,
)

FRAMES = FrameStatus(
    captured=10,
    edge=5,
    cloud=3,
    edge_degraded=1,
    dropped={"queue full": 1},
    under_way=0,
    revisions=1,
    answered_per_s=9.5,
    on_time_share=0.75,
    sent_share=0.4,
)
LINK = LinkStatus(
    address="cloud.example:443",
    breaker="closed",
    breaker_age_s=7200.0,
    round_trip_s=0.04,
    bytes_per_s=1.25e6,
    in_flight=1,
    attempted=4,
    sent=4,
    failed={"unavailable": 1},
    payload_bytes={"picture": 40_000},
    certificate_ends_unix_s=1.8e9,
)
SPOOL = SpoolStatus(
    recovered=2,
    accepted=3,
    fates={"answered": 4},
    pending=1,
    pending_bytes=20_000,
    oldest_age_s=60.0,
    refused={},
)
SINK = SinkStatus(name="0:jsonl", stored=9, waiting=0, lost={}, events_lost={}, failing=False)


def status_of(**changes: Any) -> Status:
    """A daemon to which nothing bad has happened, but for `changes`."""
    whole = Status(
        version="0.1.0",
        device_id="pole-1",
        boot_id="b",
        process_id=1,
        config="/etc/spillover/edge.yaml",
        mode="hybrid",
        uptime_s=7200.0,
        model=ModelStatus(name="small", version="1", sha256="0" * 64),
        cameras=(
            CameraStatus(
                name="camera",
                source="rtsp://cam/",
                state="ok",
                state_age_s=9.0,
                captured=10,
                frames_per_s=9.5,
            ),
        ),
        frames=FRAMES,
        link=LINK,
        budget=None,
        spool=SPOOL,
        sinks=(SINK,),
        edge_error=None,
        health=Readings(
            temperature_celsius=61.2,
            disks=(DiskSpace(folder="/var/lib/spillover", free_bytes=5 * 10**9, size_bytes=10**10),),
        ),
    )
    return msgspec.structs.replace(whole, **changes)
