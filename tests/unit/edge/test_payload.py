"""The form in which a frame is sent, chosen by predicted latency; the cost of a link, learnt from calls."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.types import Action
from edge.link import PRIOR, LinkEstimate, LinkFit
from edge.policy.payload import PayloadOption, choose_payload, predicted_latency_s

JPEG = PayloadOption("jpeg", Action.SEND_FRAME, 30_000, make_s=0.002, server_s=0.03, kept=1.0)
FEATURES = PayloadOption("cut", Action.SEND_FEATURES, 1_500, make_s=0.1, server_s=0.01, kept=0.99)
POOR = PayloadOption("poor", Action.SEND_FRAME, 900, make_s=0.002, server_s=0.03, kept=0.7)


def _link(megabits):
    return LinkEstimate(0.05, 8 / (megabits * 1e6))


def test_a_slow_link_takes_features_and_a_fast_one_the_picture():
    """At 1 Mbit/s the picture's bytes cost more than the head does, at 100 the head costs more."""
    assert choose_payload([JPEG, FEATURES], _link(1), 0, 1).option is FEATURES
    assert choose_payload([JPEG, FEATURES], _link(100), 0, 1).option is JPEG


def test_quick_and_poor_is_not_taken_while_good_is_in_time():
    """A form that loses much of the answer wins only where nothing better arrives by the deadline."""
    assert choose_payload([JPEG, FEATURES, POOR], _link(1), 0, time_left_s=1).option is FEATURES
    assert choose_payload([JPEG, FEATURES, POOR], _link(1), 0, time_left_s=0.1).option is POOR


def test_when_nothing_is_in_time_the_quickest_goes_and_it_is_said():
    """The answer may still come as a revision."""
    choice = choose_payload([JPEG, FEATURES], _link(1), 0, time_left_s=0.01)
    assert (choice.option, choice.in_time) == (FEATURES, False)


@given(st.floats(0.1, 1000), st.floats(0, 0.5), st.floats(0.01, 2))
def test_the_choice_is_never_slower_than_an_option_as_good(megabits, wait_s, time_left_s):
    """Whatever the link: no option that keeps as much and is in time was passed over for a slower one."""
    options = [JPEG, FEATURES, POOR]
    link = _link(megabits)
    choice = choose_payload(options, link, wait_s, time_left_s)
    for option in options:
        latency_s = predicted_latency_s(option, link, wait_s)
        if latency_s <= time_left_s and option.kept >= choice.option.kept:
            assert choice.latency_s <= latency_s


def test_the_gain_is_cut_by_what_the_form_loses():
    """Expected gain times what is kept."""
    assert choose_payload([FEATURES], _link(1), 0, 1, 0.5).expected_gain == pytest.approx(0.495)


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
