"""Admission control: which calls are admitted, and the error that each refused call gets."""

import math
import time
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.cloud.config import BatchingConfig, LimitsConfig
from spillover.cloud.serving.admission import Admission, RateLimiter
from spillover.common.errors import DeadlineExpiredError, OverloadedError


def _admission(max_pending: int = 4, **fields: object) -> Admission:
    return Admission(BatchingConfig(max_pending=max_pending, **fields))


def test_a_full_model_refuses_and_says_when_to_come_back():
    """One more than max_pending is refused with a time to retry; a place given back is a place again."""
    admission = _admission(2)
    with ExitStack() as inside:
        for _ in range(2):
            inside.enter_context(admission.place("", math.inf))
        assert admission.load == 1
        with pytest.raises(OverloadedError, match="full") as refused, admission.place("", math.inf):
            pass
        assert refused.value.retry_after_s > 0
    assert admission.load == 0
    with admission.place("", math.inf):
        pass


def test_a_device_may_use_what_nobody_else_wants_and_no_more():
    """Alone, a device fills the queue; with another inside, it has half."""
    admission = _admission(4)
    with admission.place("other", math.inf), ExitStack() as greedy:
        for _ in range(2):
            greedy.enter_context(admission.place("greedy", math.inf))
        with pytest.raises(OverloadedError, match="its share among 2"), admission.place("greedy", math.inf):
            pass
        with admission.place("other", math.inf):
            pass
    with ExitStack() as alone:
        for _ in range(4):
            alone.enter_context(admission.place("greedy", math.inf))


def test_a_call_that_has_ended_is_refused_before_anything():
    """A deadline in the past is DeadlineExpiredError, full or not."""
    admission = _admission()
    with pytest.raises(DeadlineExpiredError), admission.place("", time.monotonic() - 1):
        pass


def test_a_call_that_cannot_be_answered_in_time_is_refused():
    """At 100 s a row and with one inside, a call with 60 s left is sent away, one with an hour is not."""
    admission = _admission()
    admission.measured(rows=1, infer_s=100)
    now_s = time.monotonic()
    with admission.place("", math.inf):
        with pytest.raises(OverloadedError, match="the queue needs"), admission.place("", now_s + 60):
            pass
        with admission.place("", now_s + 3600):
            pass


def test_an_empty_server_always_tries():
    """One slow run does not make the server refuse for ever: with nobody inside it tries again."""
    admission = _admission()
    admission.measured(rows=1, infer_s=100)
    with admission.place("", time.monotonic() + 60):
        pass


@given(st.lists(st.floats(0, 2), max_size=60))
def test_no_device_gets_more_than_its_burst_and_rate(pauses):
    """Over any stretch of time a device gets at most burst + rate * time."""
    now = [0.0]
    limiter = RateLimiter(LimitsConfig(device_rate_per_s=5, device_burst=3), clock=lambda: now[0])
    allowed = 0
    for pause in pauses:
        now[0] += pause
        with suppress(OverloadedError):
            limiter.spend("a")
            allowed += 1
    assert allowed <= 3 + 5 * now[0] + 1e-6


def test_waiting_as_long_as_told_is_enough():
    """After retry_after_s the same device is let in; another device never had to wait."""
    now = [0.0]
    limiter = RateLimiter(LimitsConfig(device_rate_per_s=2, device_burst=1), clock=lambda: now[0])
    limiter.spend("a")
    limiter.spend("b")
    with pytest.raises(OverloadedError) as refused:
        limiter.spend("a")
    now[0] += refused.value.retry_after_s
    limiter.spend("a")
