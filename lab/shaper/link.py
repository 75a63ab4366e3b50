"""What a link is at one moment, and over time."""

import bisect
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from common.config import Section
from common.errors import SourceError

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
    """Links over time: `links[i]` holds from `starts_s[i]`; after `period_s` it begins again."""

    starts_s: tuple[float, ...]
    links: tuple[Link, ...]
    period_s: float = math.inf

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
        within_s = elapsed_s % self.period_s if math.isfinite(self.period_s) else elapsed_s
        return max(0, bisect.bisect_right(self.starts_s, within_s) - 1), within_s


def constant(link: Link) -> Schedule:
    """A link that never changes."""
    return Schedule((0.0,), (link,))


def read_schedule(path: Path) -> Schedule:
    """A trace from CSV with columns t_s, rtt_ms, up_mbit_per_s, down_mbit_per_s; an empty rate is no limit.

    It repeats; the last row holds as long as the one before it did.

    Raises:
        SourceError: the file cannot be read, a column is missing, or a row is not numbers in order of time.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        starts_s = tuple(float(row["t_s"]) for row in rows)
        links = tuple(_link(row) for row in rows)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        columns = "t_s, rtt_ms, up_mbit_per_s, down_mbit_per_s"
        raise SourceError(
            f"{path}: a link trace has the columns {columns} with numbers: {error!r}"
        ) from error
    if not starts_s or list(starts_s) != sorted(set(starts_s)):
        raise SourceError(f"{path}: t_s must rise from row to row")
    starts_s = tuple(t - starts_s[0] for t in starts_s)
    return Schedule(starts_s, links, _period_s(starts_s))


def _link(row: dict[str, str]) -> Link:
    def rate(name: str) -> float | None:
        return float(row[name]) if row[name].strip() else None

    values = {
        "rtt_ms": float(row["rtt_ms"]),
        "up_mbit_per_s": rate("up_mbit_per_s"),
        "down_mbit_per_s": rate("down_mbit_per_s"),
    }
    return msgspec.convert(values, Link)


def _period_s(starts_s: Sequence[float]) -> float:
    return starts_s[-1] + (starts_s[-1] - starts_s[-2]) if len(starts_s) > 1 else math.inf


def _bytes_per_s(mbit_per_s: float | None) -> float:
    return math.inf if mbit_per_s is None else mbit_per_s * 1e6 / 8
