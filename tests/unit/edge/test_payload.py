"""The form of a frame, chosen by predicted latency; the cost of a link and of a form, learnt from calls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.features.quantizer import Quantizer
from common.model.split import Cut, Seam
from common.types import Action, Classification, Decision
from edge.config import PayloadKind
from edge.link import PRIOR, LinkEstimate, LinkFit
from edge.parcel import PICTURE
from edge.payloads import REFUSED_S, PayloadBook
from edge.policy.base import Context
from edge.policy.payload import ChoosePayload, choose_payload
from edge.policy.rules import Fixed
from edge.values import LinkState, PayloadOption

NOTHING = Classification(np.zeros(1, np.int32), np.ones(1, np.float32))
CUT = Cut(
    name="cut",
    seams=(Seam(tensor="t", shape=(8, 4, 4), quantizer=Quantizer(levels=4, low=0, high=1)),),
    head_sha256="0" * 64,
    tail_sha256="1" * 64,
    feature_bytes=1500,
    fidelity=0.99,
)


def _option(name, latency_s, kept=1.0, action=Action.SEND_FRAME):
    return PayloadOption(name, action, 1000, latency_s, kept)


def test_the_quickest_of_those_that_are_good_enough_is_taken():
    """A form that keeps nearly everything and is quicker wins; one that loses much does not."""
    options = [_option("jpeg", 0.3), _option("cut", 0.15, 0.99), _option("poor", 0.1, 0.7)]
    assert choose_payload(options, time_left_s=1).name == "cut"


def test_quick_and_poor_is_taken_where_nothing_better_is_in_time():
    """Half an answer by the deadline is more than a whole one behind it."""
    options = [_option("jpeg", 0.3), _option("cut", 0.15, 0.99), _option("poor", 0.1, 0.7)]
    assert choose_payload(options, time_left_s=0.12).name == "poor"


def test_when_nothing_is_in_time_the_quickest_goes():
    """Its answer may still come as a revision."""
    assert choose_payload([_option("jpeg", 0.3), _option("cut", 0.15)], 0.01).name == "cut"


@given(st.lists(st.tuples(st.floats(0.01, 2), st.floats(0, 1)), min_size=1, max_size=6), st.floats(0.01, 2))
def test_no_option_as_good_is_passed_over_for_a_slower_one(pairs, time_left_s):
    """Whatever the options."""
    options = [_option(str(i), latency_s, kept) for i, (latency_s, kept) in enumerate(pairs)]
    chosen = choose_payload(options, time_left_s)
    for option in options:
        if option.latency_s <= time_left_s and option.kept >= chosen.kept:
            assert chosen.latency_s <= option.latency_s


def test_a_decision_to_send_says_in_which_form_and_what_was_expected():
    """Action, form, latency and gain are the chosen option's; the others' latencies stay to be replayed."""
    options = (_option("picture", 0.3), _option("cut", 0.1, 0.9, Action.SEND_FEATURES))
    context = Context(time_left_s=0.2, link=LinkState(options=options))

    class Sends:
        def decide(self, prediction, context):
            return Decision(Action.SEND_FRAME, "because", expected_gain=0.5)

    decision = ChoosePayload(Sends()).decide(NOTHING, context)
    assert (decision.action, decision.payload, decision.reason) == (Action.SEND_FEATURES, "cut", "because")
    assert decision.expected_gain == pytest.approx(0.45)
    assert decision.predicted_latency_s == 0.1
    assert decision.inputs == {"latency_s.picture": 0.3, "latency_s.cut": 0.1}


def test_without_a_choice_decisions_pass_as_they_are():
    """No options, or nothing to send."""
    for action, options in ((Action.SEND_FRAME, ()), (Action.KEEP, (_option("cut", 0.1),))):
        context = Context(time_left_s=1, link=LinkState(options=options))
        assert ChoosePayload(Fixed(action)).decide(NOTHING, context).action is action


@given(st.floats(0.01, 0.3), st.floats(0.5, 100))
def test_a_link_is_learnt_from_calls_of_different_sizes(round_trip_s, megabits):
    """After some calls the estimate is close to the link, at sizes that were never sent."""
    fit, truth = LinkFit(), LinkEstimate(round_trip_s, 8 / (megabits * 1e6))
    for size in (1_500, 40_000, 8_000, 30_000) * 8:
        fit.note(size, truth.seconds(size))
    for size in (500, 20_000, 60_000):
        assert fit.estimate().seconds(size) == pytest.approx(truth.seconds(size), rel=0.1, abs=0.01)


@given(st.floats(0.001, 3), st.integers(100, 100_000))
def test_calls_of_one_size_teach_what_that_size_costs(seconds, size):
    """With nothing to tell round trip from rate, the size that is sent is still predicted."""
    fit = LinkFit()
    for _ in range(30):
        fit.note(size, seconds)
    assert fit.estimate().seconds(size) == pytest.approx(seconds, rel=0.1, abs=0.01)


def test_before_the_first_call_the_prior_holds():
    """Nothing noted: the line is the prior's own."""
    estimate = LinkFit().estimate()
    assert estimate.round_trip_s == pytest.approx(PRIOR.round_trip_s)
    assert estimate.seconds_per_byte == pytest.approx(PRIOR.seconds_per_byte)


def _names(book):
    return {option.name for option in book.options()}


def test_the_book_learns_what_a_form_costs():
    """A slow head and a quick link: after some frames the picture is predicted to be quicker."""
    book = PayloadBook([CUT], PayloadKind.AUTO)
    assert choose_payload(book.options(), 1).name == "cut"
    for _ in range(30):
        for name, size, make_s in (("cut", 1500, 0.4), (PICTURE, 20_000, 0.003)):
            book.made(name, size, make_s)
            book.answered(name, size, 0.02 + size * 8 / 1e8, 0.01)
    assert choose_payload(book.options(), 1).name == PICTURE


def test_a_refused_cut_is_left_alone_for_a_while():
    """Then it is tried again: the server may have been brought up to date."""
    now = 0.0
    book = PayloadBook([CUT], PayloadKind.FEATURES, lambda: now)
    assert _names(book) == {"cut"}
    book.refused("cut")
    assert _names(book) == {PICTURE}
    now = REFUSED_S + 1
    assert _names(book) == {"cut"}


def test_features_only_never_offers_a_picture():
    """Not even while the server refuses every cut."""
    book = PayloadBook([CUT], PayloadKind.FEATURES_ONLY)
    book.refused("cut")
    assert _names(book) == {"cut"}
