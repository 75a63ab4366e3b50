"""The keys of the policy: which frames are sent to the cloud, and what may leave the device."""

import enum
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from spillover.common.config import Mistake, Section
from spillover.edge.config.kinds import Count, NotNegative, Positive, Share


class Period(enum.Enum):
    """The length of a byte budget's window, wherever it begins."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    """30 days."""

    @property
    def seconds(self) -> float:
        """Length of the period in seconds; a month counts as 30 days."""
        return {"minute": 60.0, "hour": 3600.0, "day": 86_400.0, "month": 30 * 86_400.0}[self.value]


class BudgetConfig(Section, frozen=True):
    """How many bytes may leave the device, counted as on the wire: with headers and connections."""

    bytes: Annotated[int, msgspec.Meta(ge=1000)]
    """The most that may leave in any window of length `per`."""
    per: Period = Period.DAY
    """Length of the window."""
    bucket_bytes: Count | None = None
    """How much may leave at once; null: a tenth of `bytes`. A larger frame is never sent."""
    state_file: str = ""
    """Keeps the balance over a restart, which otherwise begins at 0. Empty: a file in the cache folder if
    `per` is day or month, else none."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse a bucket that could overspend a window."""
        return (self._bucket(),)

    def _bucket(self) -> Iterator[Mistake]:
        if self.bucket_bytes is not None and self.bucket_bytes > self.bytes / 2:
            yield "bucket_bytes", f"must not be more than half of bytes, which is {self.bytes}"


class PolicyConfig(Section, frozen=True):
    """Which frames are worth the cloud's answer, in mode `hybrid`."""

    kind: str = "auto"
    """How frames are scored. Classification: `max_softmax`, `margin` or `entropy`; detection: `mean_score` or
    `near_threshold`; both: `expected_gain`. `auto`: where objects are tracked, what an answer is worth to
    their tracks; else `max_softmax` or `near_threshold`."""
    gain_file: str = ""
    """For `expected_gain`: the file that `spillover lab fit` wrote for this pair of models."""
    send_share: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    """Send about this share of all frames, those of the highest scores, whatever the unit of the score. null:
    0.1; or what `threshold`, `max_error` or `budget` say, if one of them is set."""
    threshold: float | None = None
    """Send every frame whose score is at least this, however many there are; null: see `send_share`."""
    band: NotNegative = 0.15
    """`near_threshold`: a box is in doubt within this distance of the report threshold."""
    empty_audit_share: Share = 0.02
    """Detection: share of the frames without boxes that is sent at random, to find missed objects."""
    motion_gain: float = 0.5
    """Detection: added to the score of a frame without reported boxes if 5 % of it moves; less for less."""
    lost_track_gain: float = 0.5
    """Detection: added to the score of a frame without reported boxes within a second of one with some."""
    audit_share: Share = 0.01
    """Share of all frames that is sent at random, to measure how often the edge is wrong; with a budget fewer
    where they would take more than a twentieth of its bytes."""
    agree_from: Share = 0.5
    """Detection: the edge counts as right from this F1 with the cloud's boxes."""
    max_error: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """Let audits choose the threshold so that on average this share of the frames is kept and wrong; null:
    see `send_share`."""
    seed: int = 0
    """Seed of all random choices."""
    budget: BudgetConfig | None = None
    """Limit on the bytes that leave; null: none. Frames are ranked by gain per byte, those among them that
    `send_share`, `threshold` or `max_error` would send, if one of these is set; else all."""

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """Refuse two keys that both say which scores are sent."""
        return (self._chosen(),)

    def _chosen(self) -> Iterator[Mistake]:
        first, *others = [
            key for key in ("send_share", "threshold", "max_error") if getattr(self, key) is not None
        ] or [""]
        for other in others:
            yield other, f"and {first} both say which frames are sent: keep one, and leave out the other"


class TrackingConfig(Section, frozen=True):
    """Detectors: move the cloud's boxes with the picture, and give each object a number. `null`: do not."""

    memory_mb: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 4.0
    """Most MB of small grey pictures kept for each camera. A box that is new in a late answer is brought to
    the present over them: 4 MB reach back 3.6 s, less where more than ten frames a second are sent."""


class TemporalConfig(Section, frozen=True):
    """Let the cloud's last answer correct the edge's answers to the frames that follow. Classifiers only."""

    max_age_s: Positive = 5.0
    """Ignore cloud answers to frames captured longer ago than this."""
    weight: Share = 0.3
    """How much of the change that the edge has seen since then is applied to the cloud's answer; 0: none."""
    min_similarity: Share = 0.5
    """The scene has changed when the edge's answers then and now are less alike than this (Bhattacharyya)."""
    max_change: Share = 0.4
    """The scene has changed when more than this share of the picture changes from one frame to the next."""
    refresh_s: Positive | None = None
    """Send a frame when the newest one sent is this many seconds old; null: only when the policy asks."""
