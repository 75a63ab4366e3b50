"""The goals for video: F1 over bytes and delays on the street clip, and nothing lost anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.reports import verdict
from spillover.lab.pairs.video.evaluation import (
    BYTES,
    EDGE_ONLY,
    FRAMES,
    POLICY,
    VARIANTS,
    Point,
    VideoEvaluation,
    grid,
)
from spillover.lab.pairs.video.figures import Run, Setup

CARRIED = "carried"
ALLOWED_LOSS = 0.01
LEAST_BYTES = 0.01
"""From this share of the bytes on nothing may be lost ..."""
LATEST_S = 0.5
"""... with answers at most this late."""


@dataclass(frozen=True, slots=True)
class Goal:
    """F1 of carried boxes that is to be reached with so much, so late."""

    f1: float
    asked: float
    sender: str
    late_s: float

    def __str__(self) -> str:
        late = f", answers {self.late_s:g} s late" if self.late_s else ""
        by_policy = ", frames by the policy" if self.sender == POLICY else ""
        return f"F1 at {self.asked:.0%} of the {FRAMES if self.sender == FRAMES else BYTES}{late}{by_policy}"

    def best(self, evaluation: VideoEvaluation) -> Run:
        """The run in the form that does best; which form a camera needs is known beforehand."""
        runs = [
            evaluation.run(Setup(CARRIED, self.late_s, variant.name, self.asked, self.sender))
            for variant in VARIANTS
        ]
        return max(runs, key=lambda run: run.whole.f1)


_OF_BYTES = ((0.95, 0.05, 0.0), (0.92, 0.02, 0.0), (0.90, 0.02, 0.2))
GOALS = (
    *(Goal(f1, asked, BYTES, late_s) for f1, asked, late_s in _OF_BYTES),
    Goal(0.83, 0.05, FRAMES, 1.0),
    *(Goal(f1, asked, POLICY, late_s) for f1, asked, late_s in _OF_BYTES),
)
"""On the street clip. Shares of bytes are of cloud_only's payload; of frames, of all frames. Frames are sent
at even distances, and by the daemon's own choice with a budget of those bytes."""
_BY_POLICY = tuple(Point(asked, late_s, POLICY) for _, asked, late_s in _OF_BYTES)

ASKED = (
    *grid((LEAST_BYTES, 0.02, 0.05), (0.0, 0.2, LATEST_S)),
    Point(0.05, 1.0, FRAMES),
    *_BY_POLICY,
)
"""What must be played to judge the goals."""
WHOLE = (*grid((0.01, 0.02, 0.05, 0.1, 0.2), (0.0, 0.2, 0.5, 1.0)), Point(0.05, 1.0, FRAMES), *_BY_POLICY)
"""As `lab evaluate` plays, and what the goals ask for beside."""


@dataclass(frozen=True, slots=True)
class Loss:
    """The run that lies furthest below the edge alone, and by how much; negative: above it."""

    run: Run
    by: float


def worst_loss(evaluation: VideoEvaluation) -> Loss:
    """Over all carried runs with enough bytes and answers in time, as often as bytes pay for it."""
    edge = evaluation.run(Setup(EDGE_ONLY)).whole.f1
    judged = [
        run
        for run in evaluation.runs
        if (run.setup.method, run.setup.sender) == (CARRIED, BYTES)
        and run.setup.asked >= LEAST_BYTES
        and run.setup.late_s <= LATEST_S
    ]
    worst = min(judged, key=lambda run: run.whole.f1)
    return Loss(worst, edge - worst.whole.f1)


def goal_rows(evaluation: VideoEvaluation, *, counts: bool) -> list[Sequence[str]]:
    """One row a goal; where the goal is not for this clip, without a verdict."""
    rows: list[Sequence[str]] = []
    for goal in GOALS:
        run = goal.best(evaluation)
        rows.append(
            (
                str(goal),
                f">= {goal.f1:.2f}" if counts else "-",
                f"{run.whole.f1:.3f}",
                verdict(met=run.whole.f1 >= goal.f1) if counts else "-",
                *_beside(run),
            )
        )
    loss = worst_loss(evaluation)
    setup = loss.run.setup
    named = f"F1 below edge_only, at worst ({setup.asked:.0%} of bytes, {setup.late_s:g} s late)"
    met = verdict(met=loss.by <= ALLOWED_LOSS)
    rows.append((named, f"<= {ALLOWED_LOSS}", f"{loss.by:+.3f}", met, *_beside(loss.run)))
    return rows


def _beside(run: Run) -> tuple[str, ...]:
    halves = (f"{half.f1:.3f}" for half in (run.first_half, run.second_half))
    return (*halves, f"{run.whole.streaming_f1:.3f}", run.setup.variant.removeprefix("picture-"))
