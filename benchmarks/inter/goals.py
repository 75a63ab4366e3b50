"""The goals for payloads that are coded against what the cloud has: figure beside goal, met or missed.

What there is to choose, as the rate factor, is chosen on the first half of a clip and judged on its second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.inter.cpu import SERVER_JPEG, SERVER_SCALED, SERVER_VIDEO, CpuRow
from benchmarks.inter.losses import LossRow
from benchmarks.inter.payloads import Row
from benchmarks.inter.tracks import FAIR, TrackRow

STILL_EVERY, STILL_F1, P_BYTES, MEAN_BYTES, FEATURE_BYTES = 8, 0.97, 1_600, 1_800, 2_200
MOVING_EVERY, MOVING_BYTES, MOVING_AGAINST = 3, 2_700, "picture-q70-416"
OF_JPEG = ((0.96, 0.003), (0.92, 0.0015))
"""F1 with tracks at a share of cloud_only's bytes as JPEG ..."""
OF_VIDEO = ((0.96, 0.45), (0.92, 0.22))
"""... and as video."""
MORE_LOST, MORE_BYTES = 0.05, 0.15

T = TypeVar("T")


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


def still(rows: Sequence[Row], kind: str) -> list[Verdict]:
    """Forms whose names begin with `kind`, every 8th frame: the smallest that is good on the first half."""
    forms = [row for row in rows if row.every == STILL_EVERY and row.form.startswith(kind)]
    row = _least([row for row in forms if row.first_half.f1 >= STILL_F1], lambda row: row.later_bytes)
    if row is None:
        return [
            Verdict(f"{kind}, every {STILL_EVERY}th frame", f"F1 >= {STILL_F1}", "no form reaches it", False)
        ]
    f1 = f"F1 {row.second_half.f1:.3f} on the second half, {row.whole.f1:.3f} on all"
    is_good = row.second_half.f1 >= STILL_F1
    later = row.second_half.mean_bytes
    first = Verdict(
        f"{row.form}: bytes of a payload after the key, every {STILL_EVERY}th frame",
        f"<= {P_BYTES if kind == 'video' else FEATURE_BYTES} at F1 >= {STILL_F1}",
        f"{later:.0f} on the second half, {row.later_bytes:.0f} on all; {f1}",
        is_good and later <= (P_BYTES if kind == "video" else FEATURE_BYTES),
    )
    if kind != "video":
        return [first]
    mean = row.whole.mean_bytes
    goal = f"<= {MEAN_BYTES} at F1 >= {STILL_F1}"
    return [first, Verdict("... with the key", goal, f"{mean:.0f}; {f1}", is_good and mean <= MEAN_BYTES)]


def moving(rows: Sequence[Row]) -> list[Verdict]:
    """Video on the clip with cuts: the smallest that is as good as the JPEG on the first half."""
    forms = {row.form: row for row in rows if row.every == MOVING_EVERY}
    picture = forms[MOVING_AGAINST]
    good = [
        row
        for name, row in forms.items()
        if name.startswith("video") and row.first_half.f1 >= picture.first_half.f1
    ]
    row = _least(good, lambda row: row.whole.mean_bytes)
    what = f"moving clip, every {MOVING_EVERY}rd frame: bytes at the F1 of {MOVING_AGAINST}"
    if row is None:
        return [Verdict(what, f"<= {MOVING_BYTES}", "no form reaches its F1", False)]
    return [
        Verdict(
            f"{what} ({row.form})",
            f"<= {MOVING_BYTES}, F1 >= {picture.second_half.f1:.3f}",
            f"{row.second_half.mean_bytes:.0f} on the second half, F1 {row.second_half.f1:.3f}; on all "
            f"{row.whole.mean_bytes:.0f}, F1 {row.whole.f1:.3f} beside {picture.whole.f1:.3f}",
            row.second_half.f1 >= picture.second_half.f1 and row.second_half.mean_bytes <= MOVING_BYTES,
        )
    ]


def tracked(rows: Sequence[TrackRow]) -> list[Verdict]:
    """The best on the first half among those within the bytes."""
    at_once = [row for row in rows if not row.late_s and row.form.startswith("video")]
    verdicts = []
    for of, name, goals in (
        ("cloud_only's bytes as JPEG q85", "of_jpeg", OF_JPEG),
        (f"cloud_only's bytes as {FAIR.name}", "of_video", OF_VIDEO),
    ):
        for f1, most in goals:
            within = [row for row in at_once if getattr(row, name) <= most]
            row = _least(within, lambda row: -row.run.first_half.f1)
            what, goal = f"with tracks, at {most:.2%} of {of}", f"F1 >= {f1}"
            if row is None:
                verdicts.append(Verdict(what, goal, "nothing is so small", False))
                continue
            half = row.run.second_half.f1
            verdicts.append(
                Verdict(
                    f"{what} ({row.form}, every {row.every})",
                    goal,
                    f"{half:.3f} on the second half, {row.run.whole.f1:.3f} on all, {getattr(row, name):.3%}",
                    half >= f1,
                )
            )
    return verdicts


def cpu(rows: Sequence[CpuRow]) -> list[Verdict]:
    """The server's time beside that for a JPEG scaled while it is decoded, and for the frame's own."""
    server = {row.form: row.median_ms for row in rows if row.side == "server"}
    video = server[SERVER_VIDEO]
    return [
        Verdict(
            f"server CPU a frame, {SERVER_VIDEO}",
            f"< {server[form]:.2f} ms ({form})",
            f"{video:.2f} ms",
            video < server[form],
        )
        for form in (SERVER_SCALED, SERVER_JPEG)
    ]


def lossy(rows: Sequence[LossRow]) -> list[Verdict]:
    """The worst setup counts."""
    worst = max((row for row in rows if row.lost == MORE_LOST), key=lambda row: row.more_bytes)
    return [
        Verdict(
            f"{MORE_LOST:.0%} of calls lost: more bytes (every {worst.every}, {worst.late_s:g} s late)",
            f"<= {MORE_BYTES:.0%}",
            f"{worst.more_bytes:.1%}",
            worst.more_bytes <= MORE_BYTES,
        )
    ]


def _least(items: Sequence[T], by: Callable[[T], float]) -> T | None:
    return min(items, key=by, default=None)
