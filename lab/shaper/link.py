"""A link at one moment, and over time."""

import bisect
import math
from dataclasses import dataclass
from typing import Annotated

import msgspec

from spillover.common.config import Section

NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Link(Section, frozen=True):
    """Round trip and rates of one link; `None` is a rate without a limit, 0 lets nothing pass."""

    rtt_ms: NotNegative = 0.0
    """Added to each round trip, half of it each way."""
    up_mbit_per_s: NotNegative | None = None
    """From edge to cloud."""
    down_mbit_per_s: NotNegative | None = None

    @property
    def one_way_s(self) -> float:
        """Seconds of delay in one direction."""
        return self.rtt_ms / 2000

    @property
    def up_bytes_per_s(self) -> float:
        """Rate from edge to cloud; infinite without a limit."""
        return _bytes_per_s(self.up_mbit_per_s)

    @property
    def down_bytes_per_s(self) -> float:
        """Rate from cloud to edge; infinite without a limit."""
        return _bytes_per_s(self.down_mbit_per_s)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Links over time: `links[i]` holds from `starts_s[i]`; after `period_s` it begins again.

    It begins `begin_s` after the first start.
    """

    starts_s: tuple[float, ...]
    links: tuple[Link, ...]
    period_s: float = math.inf
    begin_s: float = 0.0

    def at(self, elapsed_s: float) -> Link:
        """The link that holds `elapsed_s` after the start."""
        index, _ = self._position(elapsed_s)
        return self.links[index]

    def next_change_s(self, elapsed_s: float) -> float:
        """Seconds from `elapsed_s` to the next change; infinite when there is none."""
        index, within_s = self._position(elapsed_s)
        end_s = self.starts_s[index + 1] if index + 1 < len(self.starts_s) else self.period_s
        return end_s - within_s

    def _position(self, elapsed_s: float) -> tuple[int, float]:
        within_s = self.begin_s + elapsed_s
        if math.isfinite(self.period_s):
            within_s %= self.period_s
        return max(0, bisect.bisect_right(self.starts_s, within_s) - 1), within_s


def constant(link: Link) -> Schedule:
    """A link that never changes."""
    return Schedule((0.0,), (link,))


def _bytes_per_s(mbit_per_s: float | None) -> float:
    return math.inf if mbit_per_s is None else mbit_per_s * 1e6 / 8
