"""The benchmark on what is sent: figures of a form, goals, and what lost calls cost."""

import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.inter.goals import lossy, moving, still, tracked
from benchmarks.inter.losses import LossRow, Run
from benchmarks.inter.payloads import Part, Row, row_of
from benchmarks.inter.tracks import TrackRow
from spillover.common.types import NO_BOXES
from spillover.lab.pairs.video.answers import Answers
from spillover.lab.pairs.video.figures import Part as RunPart
from spillover.lab.pairs.video.figures import Run as PlayedRun
from spillover.lab.pairs.video.figures import Setup
from tests.support.video import scene


def row(form: str, f1: float, later: float, *, every: int = 8, second: float | None = None) -> Row:
    """A row of a hundred payloads."""
    halves = Part(50, later, f1), Part(50, later, f1 if second is None else second)
    return Row(form, every, 20_000, later, later + 600, Part(100, later + 200, f1), *halves)


def test_only_what_took_bytes_counts() -> None:
    """Of ten frames three were sent: the key stands apart, and halves are of the clip's frames."""
    sizes = np.zeros(10, np.int64)
    sizes[[0, 4, 8]] = 900, 100, 300
    figures = row_of("video", 4, Answers((NO_BOXES,) * 10, sizes), np.linspace(0, 0.9, 10))
    assert (figures.key_bytes, figures.later_bytes) == (900, 200)
    assert figures.whole.mean_bytes == pytest.approx(1300 / 3)
    assert figures.whole.f1 == pytest.approx(0.4)
    halves = figures.first_half, figures.second_half
    assert [(half.frames, half.mean_bytes) for half in halves] == [(2, 500), (1, 300)]
    assert [half.f1 for half in halves] == pytest.approx([0.2, 0.8])


def test_the_form_is_chosen_on_the_first_half_and_judged_on_the_second() -> None:
    """The smallest that is good on the first half; where it fails on the second the goal is missed."""
    rows = [row("video-a", 0.98, 1500), row("video-b", 0.975, 1200, second=0.96), row("video-c", 0.9, 500)]
    verdicts = still(rows, "video")
    assert "video-b" in verdicts[0].what
    assert [verdict.is_met for verdict in verdicts] == [False, False]
    assert [verdict.is_met for verdict in still(rows[:1], "video")] == [True, True]
    assert not still(rows[2:], "video")[0].is_met


def test_the_moving_clip_is_judged_beside_the_jpeg() -> None:
    """As good as that on the first half, and then on the second."""
    picture = row("picture-q70-416", 0.8, 9_000, every=3)
    rows = [picture, row("video-a", 0.85, 3_000, every=3), row("video-b", 0.81, 2_500, every=3)]
    assert moving(rows)[0].is_met
    assert not moving(rows[:2])[0].is_met
    assert "no form" in moving([picture])[0].figure


def test_tracks_are_judged_within_the_bytes() -> None:
    """The best on the first half of what is small enough; late answers and JPEGs are not in it."""
    part = RunPart(100, 10, 1000, 0.002, 1500, 0.003, 0.965, 0.9)
    run = PlayedRun(Setup("carried"), part, replace(part, f1=0.97), replace(part, f1=0.96), None, None)
    good = TrackRow("video-a", 3, 0.0, run, 0.0028, 0.44, 250.0)
    rows = [good, replace(good, late_s=0.2, of_jpeg=0.0001), replace(good, of_jpeg=0.01, of_video=0.9)]
    assert [verdict.is_met for verdict in tracked(rows)] == [True, False, True, False]


def test_the_worst_of_five_in_a_hundred_counts() -> None:
    """Whatever happens where fewer or more calls are lost."""
    worst = LossRow(1, 0.05, 0.05, 400, 0.25, 800.0, 0.16, 0)
    rows = [worst, replace(worst, more_bytes=0.02), replace(worst, lost=0.2, more_bytes=0.3)]
    assert not lossy(rows)[0].is_met
    assert lossy(rows[1:])[0].is_met


def test_lost_calls_are_sent_again_with_the_next_one() -> None:
    """Without losses one key and a packet a call; with them more bytes, and never another picture."""
    frames = [(number / 10, scene(number)) for number in range(40)]
    runs = [Run(0.05, lost, random.Random(1)) for lost in (0.0, 0.3)]
    for run in runs:
        run.play(frames)
    none, some = runs
    assert (none.keys, none.refused, len(none.sizes)) == (1, 0, 40)
    assert some.refused == 0
    assert sum(some.sizes) > 1.05 * sum(none.sizes)
