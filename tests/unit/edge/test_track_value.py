"""What an answer is worth to tracks, the clock that this makes, and late answers that are of use."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Action, Decision
from spillover.edge.config import BudgetConfig, Mode, Period
from spillover.edge.inference.scene import Surroundings
from spillover.edge.link.estimator import LinkEstimate
from spillover.edge.link.state import LinkState, LinkView, PayloadOption
from spillover.edge.policy.base import Context
from spillover.edge.policy.chain import Policy
from spillover.edge.policy.tracks import PRIOR_HALF_LIFE_S, useful_s, value
from spillover.edge.tracking.stage import TrackSummary
from spillover.lab.pairs.replay.remake import follows
from tests.support.edge_values import detections
from tests.support.policies import decide, policy_of

FPS = 10
BYTES = 20_000.0
PICTURE = PayloadOption("picture", Action.SEND_FRAME, BYTES, latency_s=0.1, fidelity=1.0)
FREE = LinkState(max_in_flight=8, view=LinkView(options=(PICTURE,)))
NOT_DRAWN = 0.99

summaries = st.builds(
    TrackSummary,
    shown=st.integers(0, 50),
    stale=st.floats(0, 50),
    births=st.integers(0, 50),
    deaths=st.integers(0, 50),
    flow_failures=st.integers(0, 50),
    doubtful=st.floats(0, 50),
    half_life_s=st.floats(0, 100) | st.just(math.inf),
)
ages = st.floats(0, 1e6) | st.just(math.inf)


def steady(since_s: float, shown: int = 8, half_life_s: float = 3.0, births: int = 0) -> TrackSummary:
    """Tracks that go astray with the time since the cloud has confirmed them."""
    astray = 1 - 2 ** (-since_s / half_life_s)
    return TrackSummary(shown=shown, stale=shown * astray, births=births, half_life_s=half_life_s)


@given(summaries, ages, ages)
def test_the_value_grows_with_time_and_with_whatever_happens(
    tracks: TrackSummary, one_s: float, other_s: float
) -> None:
    """Never below 0, finite, and no less later, or with one more birth, death, failure or doubt."""
    early_s, late_s = sorted((one_s, other_s))
    early, late = value(tracks, early_s), value(tracks, late_s)
    if early is None or late is None:
        assert early is late is None
        return
    assert 0 <= early <= late < math.inf
    for more in (
        replace(tracks, births=tracks.births + 1),
        replace(tracks, deaths=tracks.deaths + 1),
        replace(tracks, flow_failures=tracks.flow_failures + 1),
        replace(tracks, doubtful=tracks.doubtful + 1),
        replace(tracks, stale=tracks.stale + 1),
    ):
        assert (value(more, late_s) or 0.0) >= late


def test_an_answer_under_way_counts_as_given() -> None:
    """Tracks are as stale as before it comes, and sending again at once would put nothing further right."""
    stale = TrackSummary(shown=8, stale=6.0, half_life_s=3.0)
    assert (value(stale, 0.1) or 0.0) < 0.05 * (value(stale, 3.0) or 0.0)


def test_a_threshold_on_it_strikes_the_sooner_the_faster_tracks_die() -> None:
    """And the sooner the more there are; births bring it forward."""

    def strikes_s(**tracks: float) -> float:
        seconds = np.arange(1, 600) / FPS
        return float(next(s for s in seconds if (value(steady(s, **tracks), s) or 0.0) >= 4.0))  # type: ignore[arg-type]

    assert strikes_s(half_life_s=0.5) < strikes_s(half_life_s=3.0) < strikes_s(half_life_s=20.0)
    assert strikes_s(shown=20) < strikes_s(shown=8) < strikes_s(shown=1)
    assert strikes_s(births=6) < strikes_s()


def test_until_the_tracker_has_measured_a_half_life_is_assumed() -> None:
    """The clock runs from the first answer on."""
    unmeasured = TrackSummary(shown=4)
    assert value(unmeasured, 1.0) == value(
        TrackSummary(shown=4, stale=4.0, half_life_s=PRIOR_HALF_LIFE_S), 1.0
    )


class Scene:
    """A camera in simulated time, whose tracks the policy reads, over a link that is free."""

    def __init__(self, policy: Policy, tracks: Callable[[float, float], TrackSummary]) -> None:
        self._policy = policy
        self._tracks = tracks
        self._sent_s = -math.inf
        self.decisions: list[Decision] = []

    def play(self, frames: int, link: Callable[[float], LinkState] = lambda _: FREE) -> list[int]:
        """Decide on so many frames; the numbers of those sent."""
        sent = []
        for number in range(frames):
            now_s = number / FPS
            since_s = now_s - self._sent_s
            tracks = self._tracks(now_s, since_s)
            context = Context(
                time_left_s=0.45,
                link=link(now_s),
                now_s=now_s,
                since_last_offload_s=since_s,
                surroundings=Surroundings(empty=not tracks.shown),
                tracks=tracks,
                late_window_s=2.0,
            )
            decision = self._policy.decide(context)
            self.decisions.append(decision)
            if decision.action is not Action.KEEP:
                self._sent_s = now_s
                sent.append(number)
        return sent


def video_policy(**keys: object) -> Policy:
    """The default policy of a detector; nothing is drawn at random."""
    return policy_of(task=DETECTION, draw=NOT_DRAWN, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.02, 0.05, 0.125, 0.33])
def test_the_share_is_a_regular_refresh(share: float) -> None:
    """A value that falls back with each sent frame: gaps of about 1 / share frames, never a bunch."""
    random = np.random.default_rng(1)
    scene = Scene(
        video_policy(send_share=share),
        lambda _, since_s: steady(since_s, births=int(random.poisson(min(since_s, 60.0) / 4))),
    )
    gaps = np.diff(scene.play(3000))
    assert len(gaps) / 3000 == pytest.approx(share, rel=0.08)
    assert gaps.min() >= max(1, math.floor(0.5 / share))
    assert gaps.max() <= math.ceil(1.7 / share)


@pytest.mark.parametrize("share", [0.05, 0.125, 0.33])
def test_a_byte_budget_makes_a_regular_refresh_too(share: float) -> None:
    """Ranked by value per byte, once the first full window is over."""
    period_s = 60.0
    budget = BudgetConfig(bytes=int(share * FPS * period_s * 1.1 * BYTES), per=Period.MINUTE)
    left = bucket = budget.bytes / 10
    refill = (budget.bytes - bucket) / period_s
    policy, sent_s, sent = video_policy(budget=budget), -math.inf, []
    for number in range(4000):
        now_s, since_s = number / FPS, number / FPS - sent_s
        left = min(bucket, left + refill / FPS)
        tokens = replace(FREE.tokens, left_bytes=left, bucket_bytes=bucket, refill_bytes_per_s=refill)
        link = replace(FREE, tokens=tokens)
        context = Context(0.45, link, now_s, since_last_offload_s=since_s, tracks=steady(since_s))
        if policy.decide(context).action is not Action.KEEP:
            left, sent_s = left - 1.05 * BYTES, now_s
            sent.append(number)
    gaps = np.diff([number for number in sent if number >= 2000])
    assert 1 / gaps.mean() == pytest.approx(0.9 * share, rel=0.2)
    assert gaps.max() <= 2 * gaps.mean()
    assert gaps.min() >= 0.5 * gaps.mean()


def test_an_empty_scene_is_looked_at_by_chance_alone() -> None:
    """Without any object there is nothing to serve: rarely, by `empty_audit_share`, yet not never."""
    draw = np.random.default_rng(2).random
    policy = policy_of(task=DETECTION, draw=lambda: float(draw()), audit_share=0.0)
    scene = Scene(policy, lambda *_: TrackSummary())
    assert 20 <= len(scene.play(3000)) <= 110
    assert {one.reason for one in scene.decisions} == {"empty", "empty-audit"}


def test_the_end_of_all_tracks_is_a_reason_to_send() -> None:
    """Nothing is shown any more, so the answer says whether that is so; then nothing more is asked."""
    policy = video_policy(threshold=1.0)
    scene = Scene(policy, lambda _, since_s: TrackSummary(deaths=3 if since_s > 2.0 else 0, half_life_s=3.0))
    sent = scene.play(100)
    assert len(sent) == 3
    assert scene.decisions[sent[1]].score == pytest.approx(0.3 * 3.4)


def test_scores_of_the_prediction_stay_for_who_asks() -> None:
    """A scorer by name judges frames one by one; without tracks `auto` does too."""
    context = Context(0.45, FREE, since_last_offload_s=5.0, tracks=steady(5.0))
    doubtful = detections(0.5)
    named = decide(video_policy(kind="near_threshold", threshold=0.2), doubtful, context)
    untracked = decide(video_policy(threshold=0.2), doubtful, replace(context, tracks=None))
    assert named.score == untracked.score == 0.5
    by_tracks = decide(video_policy(threshold=0.2), doubtful, context)
    assert by_tracks.score == value(steady(5.0), 5.0)


@given(summaries, ages, st.floats(-1, 1), st.floats(0, 5), st.integers(0, 4), st.floats(0, 3))
def test_replay_makes_the_decision_from_the_numbers_alone(
    tracks: TrackSummary,
    since_s: float,
    left_s: float,
    late_window_s: float,
    in_flight: int,
    latency_s: float,
) -> None:
    """Value, form, link and whether the first result waits: each follows from `inputs`."""
    small = PayloadOption("small", Action.SEND_FRAME, 5_000, latency_s, fidelity=0.95)
    estimate = LinkEstimate(latency_s / 2, 1e5, 0.05, 0.0, backlog_s=latency_s / 3)
    link = LinkState(
        in_flight=in_flight,
        max_in_flight=4,
        view=LinkView(estimate, (replace(PICTURE, latency_s=2 * latency_s), small), may_probe=False),
    )
    context = Context(
        left_s,
        link,
        since_last_offload_s=since_s,
        tracks=tracks,
        late_window_s=late_window_s,
        surroundings=Surroundings(0.02, lost_track=True, empty=not tracks.shown),
    )
    for mode, forecast in ((Mode.HYBRID, True), (Mode.CLOUD_ONLY, True), (Mode.CLOUD_ONLY, False)):
        policy = policy_of(mode, DETECTION, draw=0.5, forecast=forecast, threshold=0.5)
        assert follows(policy.decide(context))


@pytest.mark.parametrize(
    ("latency_s", "rtt_s", "backlog_s", "since_s", "reason", "later"),
    [
        (0.3, 0.2, 0.0, 2.0, "score>=threshold", False),
        (0.9, 0.8, 0.0, 2.0, "score>=threshold", True),
        (0.5, 0.4, 0.0, 2.0, "score>=threshold", False),  # late by its margin alone: the result waits
        (0.9, 0.8, 0.0, 0.8, "link too slow", False),
        (0.9, 0.8, 0.3, 2.0, "link too slow", False),
        (2.6, 2.5, 0.0, 5.0, "link too slow", False),
    ],
)
def test_a_late_answer_is_worth_sending_for_while_tracks_last(
    latency_s: float, rtt_s: float, backlog_s: float, since_s: float, reason: str, later: bool
) -> None:
    """Up to where the call is given up; one a camera, and never behind another one on the link."""
    option = replace(PICTURE, payload_bytes=0.0, latency_s=latency_s)
    view = LinkView(LinkEstimate(rtt_s, 1e6, 0.0, 0.0, backlog_s), (option,), may_probe=False)
    link = LinkState(in_flight=1, max_in_flight=8, view=view)
    tracks = TrackSummary(shown=8, births=8, half_life_s=3.0)
    context = Context(0.45, link, since_last_offload_s=since_s, tracks=tracks, late_window_s=2.0)
    decision = decide(video_policy(threshold=0.5), detections(0.9), context)
    assert (decision.reason, decision.serves_later) == (reason, later)
    assert decision.degraded == (reason == "link too slow")
    without = decide(video_policy(threshold=0.1), detections(0.5), replace(context, tracks=None))
    assert (without.reason == "link too slow") == (latency_s > 0.45)
    unforeseen = policy_of(Mode.CLOUD_ONLY, DETECTION, forecast=False).decide(context)
    assert (unforeseen.action, unforeseen.serves_later) == (Action.SEND_FRAME, False)


def test_what_dies_quickly_is_not_worth_a_late_answer() -> None:
    """Boxes that are wrong within a quarter of a second: an answer after two half-lives says little."""
    assert useful_s(steady(1.0, half_life_s=0.25), 0.1, 2.0) == pytest.approx(0.5)
    assert useful_s(steady(1.0, half_life_s=30.0), 0.45, 2.0) == pytest.approx(2.45)
    assert useful_s(steady(1.0, half_life_s=0.1), 0.45, 2.0) == pytest.approx(0.45)
    assert useful_s(None, 0.45, 2.0) == 0.45


def test_the_smaller_picture_refreshes_tracks() -> None:
    """It keeps nearly as much; what keeps much less is not good enough. `cloud_only` sends the usual one."""
    small = PayloadOption("small", Action.SEND_FRAME, 5_000, 0.12, fidelity=0.93)
    poor = PayloadOption("poor", Action.SEND_FRAME, 900, 0.05, fidelity=0.5)
    link = replace(FREE, view=LinkView(options=(PICTURE, small, poor)))
    context = Context(0.45, link, since_last_offload_s=5.0, tracks=steady(5.0))
    assert decide(video_policy(threshold=0.2), detections(0.9), context).payload == "small"
    assert policy_of(Mode.CLOUD_ONLY, DETECTION).decide(context).payload == "picture"
