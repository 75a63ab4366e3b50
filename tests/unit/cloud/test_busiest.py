"""The busiest callers: what the sketch promises, and what the page shows of it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from spillover.cloud.telemetry.busiest import OTHER, SHOWN, WINDOW_S, Busiest, BusiestCallers, SpaceSaving

streams = st.lists(st.tuples(st.sampled_from("abcdefghijklmnop"), st.integers(0, 50)), max_size=200)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """The time it stands at."""
        return self.now_s


@given(streams, st.integers(1, 8))
def test_the_sketch_keeps_its_promises(stream, counters):
    """Counts add up, bracket the truth, need no more than their counters, and hold every heavy key."""
    sketch, truth = SpaceSaving(counters), Counter()
    for key, weight in stream:
        sketch.add(key, weight)
        truth[key] += weight
    counts, certain = sketch.counts(), sketch.certain()
    assert len(counts) <= counters
    assert sum(counts.values()) == truth.total()
    for key, count in counts.items():
        assert certain[key] <= truth[key] <= count
    assert {key for key, weight in truth.items() if weight * counters > truth.total()} <= counts.keys()


@given(streams)
def test_with_a_counter_for_each_key_it_is_exact(stream):
    """As long as the counters suffice, nothing is estimated."""
    sketch, truth = SpaceSaving(16), Counter()
    for key, weight in stream:
        sketch.add(key, weight)
        truth[key] += weight
    assert sketch.counts() == sketch.certain() == dict(truth)


def test_a_flood_of_invented_names_hides_no_busy_caller():
    """Beside thousands of names that come once, the busy ones are shown, and few others."""
    busiest = Busiest(Clock())
    for number in range(30_000):
        busiest.add(f"invented-{number}", 1, 1000.0)
        if number % 10 == 0:
            busiest.add("camera-1", 1, 1000.0)
    shown = busiest.shown()
    assert next(iter(shown)) == "camera-1"
    assert 2900 <= shown["camera-1"] <= 3000
    assert len(shown) <= SHOWN + 1
    assert sum(shown.values()) == 33_000


def test_what_is_long_ago_is_forgotten():
    """After the window nothing of it is shown."""
    clock = Clock()
    busiest = Busiest(clock)
    busiest.add("camera-1", 5, clock())
    clock.now_s += WINDOW_S / 2
    busiest.add("camera-2", 7, clock())
    assert busiest.shown() == {"camera-2": 7, "camera-1": 5, OTHER: 0}
    clock.now_s += WINDOW_S - 1
    assert busiest.shown() == {"camera-2": 7, OTHER: 0}
    clock.now_s += WINDOW_S
    assert busiest.shown() == {OTHER: 0}


def test_a_caller_named_as_the_rest_is_counted_with_it():
    """Nobody can make the page name one series twice."""
    callers = BusiestCallers(Clock())
    callers.add(OTHER, 10)
    callers.add("camera-1", 20)
    calls, size = callers.collect()
    assert [(sample.labels["caller"], sample.value) for sample in calls.samples] == [
        ("camera-1", 1),
        (OTHER, 1),
    ]
    assert [(sample.labels["caller"], sample.value) for sample in size.samples] == [
        ("camera-1", 20),
        (OTHER, 10),
    ]
