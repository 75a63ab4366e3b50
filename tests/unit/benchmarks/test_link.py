"""The benchmark of links: the ideal sender is ideal, and the goals hold on a few short runs."""

import pytest

from benchmarks.link.links import MORE, constant_link, varying_link
from benchmarks.link.played import frames_of, in_time_for_one_who_knows, play, recovery_s
from spillover.lab.pairs.replay.simulate import Setting
from spillover.lab.pairs.replay.trace import MODELS

SETTING = Setting(deadline_s=0.5)


def test_one_who_knows_fills_a_steady_link() -> None:
    """Of pictures of one size he gets as many back as the link carries, and no more."""
    frames = frames_of(100, 8, 43_000, 0.0)
    sent = in_time_for_one_who_knows(frames, constant_link(2, 0.05), SETTING)
    assert len(sent) == pytest.approx(100 * 250_000 / 43_000, rel=0.01)


@pytest.mark.parametrize(
    ("mbit_per_s", "round_trip_s", "size", "deadline_s"),
    [(2, 0.05, 43_000, 0.5), (2, 0.6, 43_000, 1.5), (0.5, 0.2, 12_000, 1.5), (20, 0.01, 120_000, 0.5)],
)
def test_a_steady_link_is_used(
    mbit_per_s: float, round_trip_s: float, size: float, deadline_s: float
) -> None:
    """At least 85 % of what could be back in time is, and 95 % of what is sent."""
    frames = frames_of(100, 8, size, 0.2)
    played = play(frames, constant_link(mbit_per_s, round_trip_s), Setting(deadline_s=deadline_s))
    assert played.used_share >= 0.85
    assert played.in_time_share >= 0.95


@pytest.mark.parametrize("name", [name for name in (*MODELS, *MORE) if name not in {"constant", "satellite"}])
def test_a_link_that_changes_is_used(name: str) -> None:
    """At least 70 % of what could be back in time is, and 95 % of what is sent."""
    played = play(frames_of(300, 10, 40_000, 0.5), varying_link(name, 0), SETTING)
    assert played.used_share >= 0.7
    assert played.in_time_share >= 0.95


@pytest.mark.parametrize(("pause_s", "server_s"), [(3.0, None), (10.0, 1.15)])
def test_recovery_is_measured(pause_s: float, server_s: float | None) -> None:
    """After a pause of the link, and after a slow start of the server."""
    assert recovery_s(pause_s, server_s=server_s) <= 5
