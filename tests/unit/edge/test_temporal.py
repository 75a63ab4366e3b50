"""Temporal correction: how the cloud's answer to an earlier frame corrects the edge's, and when not."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.common.types import Action, Classification, ModelId
from spillover.edge.config import TemporalConfig
from spillover.edge.inference.temporal import (
    LastAnswerCorrector,
    carried,
    similarity,
)
from spillover.edge.link.state import BreakerPhase, LinkState
from spillover.edge.policy.base import Context
from spillover.edge.policy.chain import Policy
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.outcome import CallFailure, CloudAnswer
from tests.support.edge_values import classification
from tests.support.policies import decide, policy_of

EDGE_THEN = classification(0.6, 0.4, 0.0)
CLOUD_THEN = Classification(np.array([2, 0, 1], np.int32), np.array([0.8, 0.15, 0.05], np.float32))


GREY = np.full((48, 64, 3), 128, np.uint8)
WHITE = np.full((48, 64, 3), 255, np.uint8)


def says(prediction: Classification) -> CloudAnswer:
    """The cloud's answer."""
    return CloudAnswer(prediction, ModelId("big", "1"), 0.0, 0.0, 0.0, 0.0)


def answered(
    temporal: LastAnswerCorrector, frame_id: str, captured_s: float, cloud: Classification = CLOUD_THEN
) -> None:
    """The cloud is asked about a frame, of which the edge said EDGE_THEN, and answers."""
    temporal.sent(frame_id, captured_s, EDGE_THEN)(says(cloud))


@st.composite
def answers(draw: st.DrawFn, least: int = 1, most: int = 8) -> Classification:
    """Any answer: some classes, perhaps not all, by descending probability, of sum 1 at most."""
    count = draw(st.integers(least, most))
    weights = np.array(draw(st.lists(st.floats(0, 1), min_size=count, max_size=count))) + 1e-9
    share = draw(st.floats(0.1, 1))
    class_id = np.array(draw(st.permutations(range(count))), np.int32)
    return Classification(class_id, np.sort(weights / weights.sum() * share)[::-1].astype(np.float32))


@given(answers(), answers(), answers(), st.floats(0, 1))
def test_a_carried_answer_is_a_distribution(
    now: Classification, then: Classification, cloud: Classification, weight: float
) -> None:
    """Whatever the three answers are: every class once, by descending probability, of sum 1, no NaN."""
    shown = carried(now, then, cloud, weight)
    assert sorted(shown.class_id) == list(range(len(shown.class_id)))
    assert set(now.class_id) | set(cloud.class_id) <= set(shown.class_id)
    assert np.isfinite(shown.probability).all()
    assert (np.diff(shown.probability) <= 0).all()
    assert float(shown.probability.sum()) == pytest.approx(1, abs=1e-4)


@given(answers(least=2), answers(least=2), st.floats(0, 1))
def test_nothing_changed_repeats_the_cloud(
    edge: Classification, cloud: Classification, weight: float
) -> None:
    """Where the edge says what it said then, the cloud's best class is the best."""
    shown = carried(edge, edge, cloud, weight)
    best = shown.probability[list(shown.class_id).index(cloud.class_id[0])]
    assert best == pytest.approx(shown.probability[0], rel=1e-5)


@given(answers(), answers())
def test_similarity_is_a_coefficient(a: Classification, b: Classification) -> None:
    """0 to 1, the same in both directions, and near 1 for an answer and itself (1 where it lists its all)."""
    assert 0 <= similarity(a, b) <= 1
    assert similarity(a, b) == pytest.approx(similarity(b, a))
    full = Classification(a.class_id, a.probability / a.probability.sum())
    assert similarity(full, full) == pytest.approx(1, abs=1e-3)


def test_what_the_edge_sees_change_moves_the_answer() -> None:
    """With weight 1 a class that the edge doubles is doubled; with weight 0 the cloud is repeated."""
    then, now = classification(0.5, 0.5), classification(0.8, 0.2)
    cloud = classification(0.4, 0.6)
    assert carried(now, then, cloud, 0.0).class_id[0] == 1
    moved = carried(now, then, cloud, 1.0)
    assert moved.class_id[0] == 0
    assert moved.probability[0] == pytest.approx(0.4 * 0.8 / (0.4 * 0.8 + 0.6 * 0.2))


def test_the_newest_answer_is_carried() -> None:
    """The frame it came from is named; an answer to an older frame that comes later changes nothing."""
    temporal = LastAnswerCorrector(TemporalConfig(max_age_s=10))
    assert temporal.correct(EDGE_THEN, GREY, 0.0).carried_from == ""
    late = temporal.sent("first", 0.0, EDGE_THEN)
    answered(temporal, "second", 1.0)
    late(says(classification(1.0, 0.0, 0.0)))
    shown = temporal.correct(EDGE_THEN, GREY, 2.0)
    assert shown.carried_from == "second"
    assert isinstance(shown.prediction, Classification)
    assert shown.prediction.class_id[0] == 2


def test_an_old_answer_is_left_alone() -> None:
    """Beyond `max_age_s` from capture to capture the edge's own answer stands."""
    temporal = LastAnswerCorrector(TemporalConfig(max_age_s=3))
    answered(temporal, "then", 1.0)
    assert temporal.correct(EDGE_THEN, GREY, 4.0).carried_from == "then"
    assert temporal.correct(EDGE_THEN, GREY, 4.001).prediction is EDGE_THEN


def test_another_scene_is_left_alone() -> None:
    """Where the edge's answers then and now are unlike, nothing is carried: the picture is another."""
    temporal = LastAnswerCorrector(TemporalConfig(min_similarity=0.5))
    answered(temporal, "then", 0.0)
    unlike = Classification(np.array([2, 1, 0], np.int32), np.array([0.98, 0.01, 0.01], np.float32))
    assert temporal.correct(unlike, GREY, 0.1).prediction is unlike


def test_a_cut_ends_what_is_carried() -> None:
    """A picture that has changed all over is another scene; answers to frames before it come too late."""
    temporal = LastAnswerCorrector(TemporalConfig(max_change=0.4))
    temporal.correct(EDGE_THEN, GREY, 0.0)
    answered(temporal, "grey", 0.0)
    under_way = temporal.sent("grey too", 0.1, EDGE_THEN)
    assert temporal.correct(EDGE_THEN, GREY, 0.2).carried_from == "grey"
    assert temporal.correct(EDGE_THEN, WHITE, 0.3).carried_from == ""
    under_way(says(CLOUD_THEN))
    assert temporal.correct(EDGE_THEN, WHITE, 0.4).carried_from == ""
    answered(temporal, "white", 0.4)
    assert temporal.correct(EDGE_THEN, WHITE, 0.5).carried_from == "white"


def test_a_failure_corrects_nothing() -> None:
    """A frame that gets no answer leaves the next one as the edge sees it."""
    temporal = LastAnswerCorrector(TemporalConfig())
    temporal.sent("f", 0.0, EDGE_THEN)(CallFailure(CallStatus.UNAVAILABLE))
    assert temporal.correct(EDGE_THEN, GREY, 0.1).carried_from == ""


def test_age_counts_from_the_newest_question() -> None:
    """A frame under way counts as asked about; one that failed does not any more."""
    temporal = LastAnswerCorrector(TemporalConfig())
    assert temporal.since_last_offload_s(5.0) == math.inf
    answered(temporal, "first", 5.0)
    second = temporal.sent("second", 6.0, EDGE_THEN)
    assert temporal.since_last_offload_s(6.5) == 0.5
    second(CallFailure(CallStatus.DEADLINE_EXCEEDED))
    assert temporal.since_last_offload_s(6.5) == 1.5


def test_answers_come_from_other_threads() -> None:
    """Many calls that end at once, in any order, leave the newest frame's answer."""
    temporal = LastAnswerCorrector(TemporalConfig(max_age_s=1000))
    threads = [threading.Thread(target=answered, args=(temporal, str(n), float(n))) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert temporal.correct(EDGE_THEN, GREY, 60.0).carried_from == "49"


def _refreshing() -> Policy:
    return policy_of(audit_share=0, refresh_s=0.5, threshold=0.5)


def test_a_frame_is_sent_when_the_last_one_is_old() -> None:
    """`refresh_s`: kept frames are sent once so much time has passed, with the numbers that decided it."""
    policy = _refreshing()
    link = LinkState(max_in_flight=4)
    sure = classification(0.9, 0.1)
    assert decide(policy, sure, Context(0.4, link, since_last_offload_s=0.4)).reason == "confident"
    refreshed = decide(policy, sure, Context(0.4, link, since_last_offload_s=0.5))
    assert (refreshed.action, refreshed.reason) == (Action.SEND_FRAME, "refresh")
    assert (refreshed.inputs["since_last_offload_s"], refreshed.inputs["refresh_s"]) == (0.5, 0.5)
    assert decide(policy, sure, Context(0.4, link)).inputs["since_last_offload_s"] < math.inf


def test_a_refresh_that_cannot_leave_is_put_off() -> None:
    """Only the clock wanted the cloud's answer: the frame is the edge's, not a degraded one."""
    policy = _refreshing()
    down = LinkState(max_in_flight=4, breaker=BreakerPhase.OPEN, breaker_allows=False)
    decision = decide(policy, classification(0.9, 0.1), Context(0.4, down, since_last_offload_s=9.0))
    assert (decision.action, decision.reason) == (Action.KEEP, "refresh put off")
    assert not decision.degraded


def test_of_two_answers_to_one_frame_the_later_one_stands() -> None:
    """As a revision would."""
    temporal = LastAnswerCorrector(TemporalConfig())
    answered(temporal, "f", 0.0)
    answered(temporal, "f", 0.0, classification(0.1, 0.8, 0.1))
    shown = temporal.correct(EDGE_THEN, GREY, 0.0).prediction
    assert isinstance(shown, Classification)
    assert shown.class_id[0] == 1
