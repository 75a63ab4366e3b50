"""The goals for payloads that are coded against what the cloud has: figure beside goal, met or missed."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.inter.cpu import SERVER_JPEG, SERVER_SCALED, SERVER_VIDEO, CpuRow
from benchmarks.inter.payloads import VIDEOS, Row
from benchmarks.inter.tracks import TrackRow

P_BYTES, MEAN_BYTES, STILL_F1, STILL_EVERY = 1_600, 1_800, 0.97, 8
MOVING_BYTES, MOVING_EVERY, MOVING_AGAINST = 2_700, 3, "picture-q70-416"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal."""

    what: str
    goal: str
    figure: str
    is_met: bool

    def cells(self) -> tuple[str, ...]:
        """As a row of a table."""
        return self.what, self.goal, self.figure, "met" if self.is_met else "missed"


def still(rows: Sequence[Row]) -> list[Verdict]:
    """Video on the street clip, every 8th frame: the fewest bytes that keep F1 on the first half."""
    videos = [row for row in rows if row.every == STILL_EVERY and row.form.startswith("video")]
    row = _fewest(videos, lambda row: row.first_half.f1 >= STILL_F1)
    if row is None:
        return [Verdict("video, every 8th frame", f"F1 >= {STILL_F1}", "no crf reaches it", False)]
    f1 = f"F1 {row.second_half.f1:.3f} on the second half, {row.whole.f1:.3f} on all"
    enough = row.second_half.f1 >= STILL_F1
    return [
        Verdict(
            f"bytes of a P frame, every {STILL_EVERY}th ({row.form})",
            f"<= {P_BYTES} at F1 >= {STILL_F1}",
            f"{row.second_half.mean_bytes:.0f} on the second half, {f1}",
            enough and row.second_half.mean_bytes <= P_BYTES,
        ),
        Verdict(
            "... with the key",
            f"<= {MEAN_BYTES} at F1 >= {STILL_F1}",
            f"{row.whole.mean_bytes:.0f}, {f1}",
            enough and row.whole.mean_bytes <= MEAN_BYTES,
        ),
    ]
