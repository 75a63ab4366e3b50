"""The status of a running daemon: one value that the daemon builds and the command shows.

Counts are of this run of the daemon. Ages and rates are of the moment at which it was asked.
"""

import msgspec

from spillover.edge.health.readings import LadderState, Readings, Work

PAGE = "/status"
"""Where an HTTP server has it."""

Counted = dict[str, int]
"""How often, by a name; what never happened is left out."""


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The local model."""

    name: str
    version: str
    sha256: str
    """Digest of its network's file."""
    boxes_dropped: Counted = {}
    """Boxes that nobody got, by reason: a broken network's, mostly."""


class TrackingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is tracked in one camera's pictures."""

    shown: int
    """Objects that the newest result shows."""
    cuts: int
    """Scenes that ended because the picture shared nothing with the one before, or had another size."""
    dropped: Counted
    """Boxes, frames and cloud answers that could not be tracked, by reason."""


class ZoneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One zone of a camera."""

    name: str
    count: int
    """Objects inside."""
    classes: Counted
    """The same by class."""


class LineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a camera."""

    name: str
    in_count: int
    """Crossings since the start, withdrawn ones left out."""
    out_count: int


class CameraStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One camera."""

    name: str
    source: str
    """Without a password."""
    state: str
    """A `CameraState`; `starting` before the first picture."""
    detail: str = ""
    state_age_s: float | None = None
    """None: the camera has reported no state, as files do."""
    captured: int
    frames_per_s: float | None
    """Captured in the last seconds; None before the second frame."""
    thinned: Counted = {}
    """Pictures passed over, by why fewer frames are wanted."""
    scene_fps: float | None = None
    """Frames a second that the scene asks for; None where it is not asked."""
    reused: int = 0
    """Frames that the model did not look at, since nothing had changed."""
    tracking: TrackingStatus | None = None
    """None where nothing is tracked."""
    zones: tuple[ZoneStatus, ...] = ()
    lines: tuple[LineStatus, ...] = ()


class FrameStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the frames of all cameras.

    `captured = edge + cloud + edge_degraded + dropped + under_way`.
    """

    captured: int
    edge: int
    """Answered by the edge alone, because the policy kept them."""
    cloud: int
    """Answered by the cloud within the deadline."""
    edge_degraded: int
    """Answered by the edge although the cloud was wanted."""
    dropped: Counted
    """By reason."""
    under_way: int
    revisions: int
    """Cloud answers that came after the first result."""
    answered_per_s: float | None
    """First results in the last seconds; None before the second."""
    on_time_share: float | None
    """Of the frames that the cloud was wanted for, the share that it answered in time; None: of none."""
    sent_share: float | None
    """Of the captured frames, the share that was sent; None: there are none."""


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The way to the cloud."""

    address: str
    breaker: str
    """A `BreakerPhase`: `closed` lets calls pass."""
    breaker_age_s: float
    """Since when calls pass, or since when they do not."""
    breaker_reason: str = ""
    """The last failure while calls do not pass."""
    misfit: str = ""
    """Why edge and cloud do not fit together, with the key that would mend it."""
    round_trip_s: float | None
    """As estimated from calls; None before the first answer."""
    bytes_per_s: float | None
    in_flight: int
    attempted: int
    """Frames given to the uplink, those from the spool included."""
    sent: int
    """Frames of the cameras that left the device, those from the spool not included."""
    failed: Counted
    """By status."""
    payload: str = ""
    """In words what is sent of a frame."""
    payload_bytes: Counted
    """By kind."""
    keys: Counted = msgspec.field(default_factory=dict)
    """Payloads of streams that needed nothing sent before, by cause."""
    certificate_ends_unix_s: float | None = None


class BudgetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The byte budget."""

    charged_bytes: float
    left_bytes: float
    """What may leave now."""
    bucket_bytes: float
    """The most that may leave at once."""


class SpoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Frames that wait on the disk. `recovered + accepted` is the sum of `fates` and `pending`."""

    recovered: int
    """Found on the disk at the start."""
    accepted: int
    fates: Counted
    pending: int
    pending_bytes: int
    oldest_age_s: float
    refused: Counted
    """Frames worth a late answer that it did not take, by reason."""
    error: str = ""
    """Why the disk is not in use now."""


class SinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One sink."""

    name: str
    stored: int
    """Results that it has."""
    waiting: int
    """Results and events that are queued for it, or that it could not store so far."""
    lost: Counted
    """Results that it will never have, by reason."""
    events_lost: Counted
    failing: bool
    """Whether its last attempt failed."""
    last_error: str = ""
    last_error_age_s: float | None = None


class ErrorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How often the edge is wrong, by audits: share of all frames that are kept and wrong."""

    share: float
    low: float
    high: float
    """Bounds of the 95 % interval."""
    audits: int


class Status(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="spillover edge status"):
    """One daemon. Its `what` tells it from any other JSON."""

    version: str
    device_id: str
    boot_id: str
    process_id: int
    config: str
    """The absolute path of its configuration; empty without one."""
    mode: str
    uptime_s: float
    model: ModelStatus
    cameras: tuple[CameraStatus, ...]
    frames: FrameStatus
    link: LinkStatus | None
    """None in mode `edge_only`, as the budget and the spool are where none is configured."""
    budget: BudgetStatus | None
    spool: SpoolStatus | None
    sinks: tuple[SinkStatus, ...]
    former_sinks_lost: Counted = msgspec.field(default_factory=dict)
    """Results lost by sinks that a reload has taken out, by their name."""
    edge_error: ErrorStatus | None
    """None before the first audit was answered."""
    health: Readings
    work: Work | None = None
    """What the local model does."""
    ladder: LadderState | None = None
    """Where the device stands on the ladder; None where `health.ladder` is off."""
