"""Which frames are worth the cloud, and what may leave the device."""

import enum
from typing import Annotated

import msgspec

from spillover.common.config import Section
from spillover.edge.config.kinds import Count, NotNegative, Positive, Share


class Period(enum.Enum):
    """What a byte budget is for; any stretch of time of that length, whenever it begins."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    @property
    def seconds(self) -> float:
        """A month is 30 days."""
        return {"minute": 60.0, "hour": 3600.0, "day": 86_400.0, "month": 30 * 86_400.0}[self.value]


class BudgetConfig(Section, frozen=True):
    """What may leave the device, in bytes as the link counts them; see `edge.link.byte_budget.wire_bytes`."""

    bytes: Annotated[int, msgspec.Meta(ge=1000)]
    per: Period = Period.DAY
    bucket_bytes: Count | None = None
    """How much may leave at once; null is a tenth of `bytes`. A frame that is larger is never sent."""
    state_file: str = ""
    """Keeps what is left over a restart, which otherwise begins with an empty bucket. Empty: for a day or a
    month a file in the cache folder, else none."""

    def __post_init__(self) -> None:
        """Refuse a bucket that a window could be overspent with."""
        if self.bucket_bytes is not None and self.bucket_bytes > self.bytes / 2:
            raise ValueError("bucket_bytes must not be more than half of bytes")


class PolicyConfig(Section, frozen=True):
    """Which frames are worth the cloud's answer, in mode `hybrid`."""

    kind: str = "auto"
    """`expected_gain`, or a scorer of `edge.policy.scores`; `auto` is max_softmax or near_threshold."""
    gain_file: str = ""
    """For `expected_gain`: what `spillover lab fit` wrote for this pair of models."""
    threshold: float = 0.5
    """Frames whose score reaches it are sent."""
    band: NotNegative = 0.15
    """near_threshold counts boxes whose confidence is within this distance of the report threshold."""
    empty_audit_share: Share = 0.02
    """Share of the frames without detections that is sent: no score can know of a missed object."""
    motion_gain: float = 0.5
    """Gain of a frame without reported boxes in which a twentieth of the picture moves; less for less."""
    lost_track_gain: float = 0.5
    """Gain of a frame without reported boxes within a second of one that had some."""
    audit_share: Share = 0.01
    """Share of all frames that is sent at random, to count what the edge gets wrong."""
    agree_from: Share = 0.5
    """Detection: F1 with the cloud's boxes from which the edge's answer counts as right."""
    max_error: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """Moves the threshold so that at most this share of the frames is kept and wrong; null leaves it."""
    seed: int = 0
    budget: BudgetConfig | None = None
    """With one, frames are ranked by gain per byte, and `threshold` is the least gain that is sent at all."""


class TemporalConfig(Section, frozen=True):
    """Let the cloud's last answer correct those of the edge that follow; see `edge.inference.temporal`."""

    max_age_s: Positive = 5.0
    """From the capture of the frame that the cloud answered; older answers are left alone."""
    weight: Share = 0.3
    """How much of what the edge sees change since then moves the cloud's answer; 0 repeats it as it is."""
    min_similarity: Share = 0.5
    """Bhattacharyya's coefficient of the edge's answers then and now below which the scene has changed."""
    max_change: Share = 0.4
    """Share of the picture that changes from one frame to the next beyond which that is another scene too."""
    refresh_s: Positive | None = None
    """Send a frame when the newest that was sent is this old; null leaves it to the policy."""
