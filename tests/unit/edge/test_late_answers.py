"""Links whose answers come late: on video they are used, in simulated time, and nothing piles up."""

import numpy as np
import pytest

from spillover.edge.policy.share import RunningShare
from spillover.edge.tracking.stage import TrackSummary
from spillover.lab.pairs.replay.simulate import LinkAware, ReplayFrame, Setting, SimulatedCall, Simulation
from spillover.lab.pairs.replay.trace import LinkTrace, Step

FPS = 10
SETTING = Setting(deadline_s=0.45)
BYTES = 15_000.0


def people(since_s: float) -> TrackSummary:
    """Eight of them, whose boxes are right for seconds."""
    astray = 1 - 2 ** (-since_s / 4.0)
    return TrackSummary(shown=8, stale=8 * astray, half_life_s=4.0)


def link(*lines: tuple[float, float, float]) -> LinkTrace:
    """Of (begin, bytes a second, round trip), for an hour."""
    steps = [Step(*line) for line in lines]
    return LinkTrace("late", [*steps, Step(3600.0, *lines[-1][1:])])


def played(trace: LinkTrace, share: float, seconds: float, *, tracked: bool = True) -> list[SimulatedCall]:
    """The calls that the daemon's policy makes over this link."""
    edge = LinkAware(SETTING, RunningShare(share), tracks=people if tracked else None)
    simulation = Simulation(edge, trace, SETTING)
    calls = []
    for number in range(int(seconds * FPS)):
        call = simulation.offer(ReplayFrame(number / FPS, 0.5, BYTES))
        if call is not None:
            calls.append(call)
            assert edge.decision.serves_later or edge.decision.predicted_latency_s <= 2.45
    return calls


def most_under_way(calls: list[SimulatedCall]) -> int:
    """The most calls that had departed and not ended at one moment."""
    return max(sum(c.departs_s <= call.departs_s < c.ends_s for c in calls) for call in calls)


@pytest.mark.parametrize("rtt_s", [0.2, 0.5, 0.9, 1.4])
@pytest.mark.parametrize("share", [0.02, 0.1])
def test_a_link_that_is_always_late_is_used(rtt_s: float, share: float) -> None:
    """The share is sent as on a quick link, regularly, and the answers arrive; without tracks few are."""
    calls = played(link((0.0, 1e6, rtt_s)), share, 120)
    later = [call for call in calls if call.frame.captured_s > 20]
    can_s = max(1 / share / FPS, rtt_s + 0.1)
    assert len(later) == pytest.approx(100 / can_s, rel=0.25)
    assert all(call.answered for call in later)
    assert most_under_way(later) <= (1 if rtt_s > 0.45 else 2)
    gaps = np.diff([call.frame.captured_s for call in later])
    assert gaps.max() <= 2.5 * can_s
    if rtt_s > 0.45:
        untracked = played(link((0.0, 1e6, rtt_s)), share, 120, tracked=False)
        assert len(untracked) < 0.5 * len(calls) or share < 0.1


def test_what_the_link_cannot_carry_does_not_pile_up() -> None:
    """Each picture takes the link 0.8 s: one after the other is sent, none behind another."""
    calls = played(link((0.0, BYTES / 0.8, 0.1)), 0.5, 120)
    later = [call for call in calls if call.frame.captured_s > 20]
    assert len(later) > 60
    assert most_under_way(later) == 1
    waits = [call.ends_s - call.frame.captured_s for call in later]
    assert max(waits) < 1.3


def test_a_link_that_dies_takes_a_frame_and_probes() -> None:
    """Carries nothing from the 60th to the 90th second; then it is used as before."""
    calls = played(link((0.0, 1e6, 0.9), (60.0, 0.0, 0.9), (90.0, 1e6, 0.9)), 0.1, 150)
    dead = [call for call in calls if 58 <= call.departs_s < 88]
    assert most_under_way(dead) <= 2
    assert len(dead) <= 20
    after = [call for call in calls if call.departs_s >= 105]
    assert len(after) == pytest.approx(0.1 * 45 * FPS, rel=0.25)
    assert all(call.answered for call in after)


def test_a_quick_link_waits_for_no_late_answers() -> None:
    """What a frame or two later would be in time is not sent late: answers stay first results."""
    calls = played(link((0.0, BYTES / 0.2, 0.05)), 0.6, 60)
    later = [call for call in calls if call.frame.captured_s > 10]
    assert sum(call.in_time for call in later) / len(later) > 0.9
