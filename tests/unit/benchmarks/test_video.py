"""The benchmark on video: goals are judged by the runs that they name, and the worst loss is found."""

from dataclasses import replace

import pytest

from benchmarks.video.goals import ASKED, GOALS, goal_rows, worst_loss
from spillover.lab.pairs.video.evaluation import BYTES, EDGE_ONLY, FULL, SMALL, VideoEvaluation
from spillover.lab.pairs.video.figures import Part, Run, Setup


def run(setup: Setup, f1: float) -> Run:
    """A run whose halves differ by a tenth."""
    whole = Part(100, 5, 500, 0.05, 3000, 0.06, f1, f1 - 0.1)
    halves = replace(whole, f1=f1 + 0.05), replace(whole, f1=f1 - 0.05)
    return Run(setup, whole, *halves, None, None)


def evaluation(**worse: float) -> VideoEvaluation:
    """Everything that the goals ask for at F1 .96 in small pictures and .9 in large ones, the edge at .6."""
    runs = [run(Setup(EDGE_ONLY), 0.6)]
    for point in ASKED:
        for variant, f1 in ((SMALL, 0.96), (FULL, 0.9)):
            setup = Setup("carried", point.late_s, variant.name, point.asked, point.sender)
            runs.append(run(setup, worse.get(variant.name.replace("-", "_"), f1)))
    return VideoEvaluation("clip", 100, 10.0, "e@1", "c@1", "cloud", tuple(runs))


def test_a_goal_takes_the_better_form_and_states_both_halves() -> None:
    """.96 of small pictures, not .9 of large ones; halves, streaming F1 and form stand beside it."""
    rows = goal_rows(evaluation(), counts=True)
    assert len(rows) == len(GOALS) + 1
    assert rows[0] == (
        "F1 at 5% of the bytes",
        ">= 0.95",
        "0.960",
        "met",
        "1.010",
        "0.910",
        "0.860",
        "q40-416",
    )
    assert {row[3] for row in rows} == {"met"}


def test_a_missed_goal_is_said_so_and_other_clips_have_none() -> None:
    """.9 misses what wants more; on a clip for which goals are not meant nothing is judged but the loss."""
    rows = goal_rows(evaluation(picture_q40_416=0.9), counts=True)
    assert [row[3] for row in rows[:-1]] == ["met" if goal.f1 <= 0.9 else "missed" for goal in GOALS]
    assert {"met", "missed"} == {row[3] for row in rows[:-1]}
    elsewhere = goal_rows(evaluation(picture_q40_416=0.9), counts=False)
    assert [row[3] for row in elsewhere] == ["-"] * len(GOALS) + ["met"]


def test_the_worst_loss_is_that_of_any_form() -> None:
    """Large pictures lie .02 below the edge: missed, whatever small ones do."""
    judged = evaluation(picture_q85=0.58)
    loss = worst_loss(judged)
    assert (loss.run.setup.variant, loss.run.setup.sender) == (FULL.name, BYTES)
    assert loss.by == pytest.approx(0.02)
    assert goal_rows(judged, counts=False)[-1][3] == "missed"
