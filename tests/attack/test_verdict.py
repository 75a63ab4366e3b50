"""The verdict on a row: each of the promises that an attempt may break makes it fail."""

import msgspec
import pytest

import tests.attack.attempts  # noqa: F401 - fills the list
from tests.attack.bystander import Calls
from tests.attack.suite import ATTEMPTS, Row

GOOD = Row(
    name="x",
    sentence="X.",
    mode="plain",
    statuses={"OK": 3},
    unexpected=[],
    alive=True,
    ends=False,
    at_rest_mb=100.0,
    before_mb=100.0,
    peak_mb=400.0,
    after_mb=119.0,
    bound_mb=427.0,
    good=Calls(3, 1, {}, [0.1, 0.2, 0.3]),
    good_afterwards=Calls(3, 0, {}, [0.1] * 3),
    seconds=1.0,
)


def test_a_row_without_fault_is_good() -> None:
    """Nothing is found where nothing is wrong, put-off calls included."""
    assert GOOD.failures == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"alive": False}, "died"),
        ({"unexpected": ["INTERNAL"]}, "unexpected"),
        ({"good": Calls(3, 0, {"DEADLINE_EXCEEDED": 1}, [10.0] * 3)}, "unanswered meanwhile"),
        ({"good_afterwards": Calls(3, 0, {"UNAVAILABLE": 1}, [10.0] * 3)}, "unanswered afterwards"),
        ({"good": Calls(0, 0, {}, [])}, "no call meanwhile"),
        ({"peak_mb": 428.0}, "passed the bound"),
        ({"front_peak_mb": 500.0, "front_bound_mb": 400.0}, "the proxy's"),
        ({"after_mb": 121.0}, "were kept"),
    ],
)
def test_each_broken_promise_fails_the_row(change: dict[str, object], says: str) -> None:
    """Death, a wrong status, a good call unanswered, memory beyond its bound or kept."""
    row = msgspec.structs.replace(GOOD, **change)
    assert len(row.failures) == 1
    assert says in row.failures[0]


def test_what_an_earlier_attempt_has_left_is_not_this_ones() -> None:
    """A server that is reused is judged by what the attempt has added."""
    assert msgspec.structs.replace(GOOD, before_mb=121.0, after_mb=121.0).failures == []
    assert msgspec.structs.replace(GOOD, before_mb=121.0, after_mb=130.0).failures


def test_what_idle_streams_keep_is_no_fault() -> None:
    """As much as they may, and no more."""
    streams = msgspec.structs.replace(GOOD, streams_mb=30.0)
    assert msgspec.structs.replace(streams, after_mb=149.0).failures == []
    assert msgspec.structs.replace(streams, after_mb=151.0).failures


def test_among_callers_who_prove_nothing_the_good_one_may_be_put_off_for_a_while() -> None:
    """Nobody can tell them apart; once they are gone it is answered."""
    put_off = Calls(3, 0, {"DEADLINE_EXCEEDED": 1}, [10.0] * 3)
    assert msgspec.structs.replace(GOOD, shared=True, good=put_off).failures == []
    assert msgspec.structs.replace(GOOD, shared=True, good_afterwards=put_off).failures


def test_memory_that_only_a_proxy_can_bound_is_not_judged_without_one() -> None:
    """All else is."""
    large = msgspec.structs.replace(GOOD, front_bounds=True, peak_mb=1000.0, after_mb=900.0)
    assert large.failures == []
    assert msgspec.structs.replace(large, alive=False).failures


def test_an_attempt_that_ends_the_server_is_judged_by_what_it_saw() -> None:
    """There is no good device to be answered, and no memory to come back."""
    ended = msgspec.structs.replace(GOOD, ends=True, alive=False, after_mb=0.0, good=Calls(0, 0, {}, []))
    assert ended.failures == []
    assert msgspec.structs.replace(ended, unexpected=["exit code -9"]).failures


def test_attempts_say_what_they_are() -> None:
    """Each has a sentence for the list, and statuses that it may see."""
    assert len(ATTEMPTS) > 60
    assert [one.name for one in ATTEMPTS.values() if not one.sentence.endswith(".") or not one.expects] == []
