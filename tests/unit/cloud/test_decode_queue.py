"""The order of decodings: fair by cost, nobody starves, a holder's share of the threads, a bound."""

from collections import Counter
from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spillover.cloud.serving.decode_queue import DecodeQueue, Skip
from spillover.common.errors import OverloadedError

LARGE = 25_000_000
MOST, LONGEST = 6, 10


@dataclass(eq=False)
class Job:
    """One decoding of a test."""

    holder: str
    cost: int = LARGE
    expires_s: float = inf


class Skipped(list):
    """Notes what the queue skips, and why."""

    def __call__(self, job, reason):
        """As the queue calls it."""
        self.append((job, reason))


def queue_of(*jobs, slots=1, most_waiting=1000, skipped=None, clock=lambda: 0.0):
    """A queue with these jobs waiting."""
    queue = DecodeQueue(slots, most_waiting, clock, skipped if skipped is not None else Skipped())
    for job in jobs:
        queue.add(job)
    return queue


def run_next(queue):
    """Take a job and end it at once."""
    job = queue.take()
    if job:
        queue.done(job)
    return job


def order_of(queue):
    """Who is served, one after the other, until nothing waits."""
    return [job.holder for job in iter(lambda: run_next(queue), None)]


def test_a_flood_of_large_pictures_delays_another_by_the_one_that_runs():
    """Whatever waits of the flooder, the other's next picture comes before all of it."""
    queue = queue_of(*(Job("flood") for _ in range(100)))
    for _ in range(5):
        running = queue.take()
        assert running.holder == "flood"
        queue.add(Job("good", 300_000))
        queue.done(running)
        assert run_next(queue).holder == "good"


def test_shares_are_of_cost_and_not_of_pictures():
    """Who sends pictures of a tenth of the size has ten of them decoded for one of the other."""
    queue = queue_of(*(Job("large", 1000) for _ in range(20)), *(Job("small", 100) for _ in range(200)))
    served = Counter(order_of(queue)[:110])
    assert served["large"] == pytest.approx(10, abs=1)


def test_what_a_picture_costs_beyond_its_estimate_delays_its_holder():
    """A hundred scans are known only when it runs; then a hundred plain pictures of another come first."""
    queue = queue_of(Job("bombs", 10), Job("bombs", 10))
    first = queue.take()
    queue.charge(first, 990)
    for _ in range(120):
        queue.add(Job("good", 10))
    queue.done(first)
    assert order_of(queue).index("bombs") == pytest.approx(100, abs=1)


def test_new_names_do_not_overtake_for_ever():
    """Somebody who invents a holder for each picture is served no more often than one who waits."""
    queue = queue_of(Job("good"))
    for number in range(3):
        queue.add(Job(f"invented {number}"))
        served = run_next(queue)
        if served.holder == "good":
            return
    pytest.fail("the one that waited longest was not served")


@pytest.mark.parametrize(("slots", "at_once"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_one_holder_runs_at_most_half(slots, at_once):
    """Even alone: what runs cannot be interrupted when another comes."""
    queue = queue_of(*(Job("flood") for _ in range(20)), slots=slots)
    running = [queue.take() for _ in range(at_once)]
    assert all(running)
    assert queue.take() is None or slots == 1
    if slots > 1:
        queue.add(Job("good"))
        assert queue.take().holder == "good"


def test_what_nobody_wants_any_more_is_skipped():
    """Past its deadline, or cancelled: it takes no slot and costs its holder nothing."""
    now, skipped = [0.0], Skipped()
    late, cancelled, wanted = Job("a", expires_s=1.0), Job("a"), Job("a")
    queue = queue_of(late, cancelled, wanted, clock=lambda: now[0], skipped=skipped)
    queue.cancel(cancelled)
    now[0] = 1.0
    assert queue.take() is wanted
    assert skipped == [(cancelled, Skip.CANCELLED), (late, Skip.DEADLINE)]
    queue.cancel(wanted)  # it runs: nothing happens
    assert len(skipped) == 2


def test_a_full_queue_makes_room_at_the_cost_of_who_has_most_in_it():
    """Others get in, the newest of the flooder leave, and the flooder itself is refused."""
    skipped = Skipped()
    flood = [Job("flood") for _ in range(4)]
    queue = queue_of(*flood, most_waiting=4, skipped=skipped)
    with pytest.raises(OverloadedError):
        queue.add(Job("flood"))
    queue.add(Job("good"))
    queue.add(Job("good"))
    assert skipped == [(flood[3], Skip.DISPLACED), (flood[2], Skip.DISPLACED)]
    assert queue.waiting == 4
    with pytest.raises(OverloadedError):
        queue.add(Job("good"))


def test_debts_end_when_nobody_is_left():
    """They order those who wait at the same time; later, nobody is harmed by them."""
    queue = queue_of(Job("bombs"))
    first = queue.take()
    queue.charge(first, 100 * LARGE)
    queue.done(first)
    queue.add(Job("bombs", 1))
    queue.add(Job("good", 2))
    assert order_of(queue) == ["bombs", "good"]


class Machine(RuleBasedStateMachine):
    """Any sequence of arrivals, ends and cancellations, beside what must hold of each."""

    def __init__(self):
        super().__init__()
        self.slots = 4
        self.skipped = Skipped()
        self.queue = queue_of(slots=self.slots, most_waiting=MOST, skipped=self.skipped)
        self.waiting, self.running = [], []
        self.others_since = {}

    @rule(holder=st.sampled_from("abc"), cost=st.sampled_from((1, LONGEST)))
    def arrive(self, holder, cost):
        """A picture comes."""
        job = Job(holder, cost)
        try:
            self.queue.add(job)
        except OverloadedError:
            counts = Counter(one.holder for one in self.waiting)
            assert len(self.waiting) == MOST
            assert counts[holder] + 1 >= max(counts.values())
            return
        self.waiting.append(job)
        self._forget_skipped()
        self._first_since(job.holder)

    @rule()
    def take(self):
        """A slot looks for work."""
        job = self.queue.take()
        running = Counter(one.holder for one in self.running)
        if job is None:
            free = [one for one in self.waiting if running[one.holder] < self.slots // 2]
            assert not free or len(self.running) == self.slots
            return
        assert job is next(one for one in self.waiting if one.holder == job.holder)
        for other, (first, started) in self.others_since.items():
            if other != job.holder and first in self.waiting and running[other] < self.slots // 2:
                started[job.holder] += job.cost
                assert started[job.holder] <= first.cost + 2 * LONGEST, "somebody overtook without an end"
        self.waiting.remove(job)
        self.running.append(job)
        self.others_since.pop(job.holder, None)
        self._first_since(job.holder)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data):
        """A decoding ends."""
        job = data.draw(st.sampled_from(self.running))
        self.running.remove(job)
        self.queue.done(job)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data):
        """A call ends while its picture waits."""
        self.queue.cancel(data.draw(st.sampled_from(self.waiting)))
        self._forget_skipped()

    @invariant()
    def counts(self):
        """What waits and runs is known, and bounded."""
        assert self.queue.waiting == len(self.waiting) <= MOST
        assert self.queue.running == len(self.running) <= self.slots
        each = Counter(one.holder for one in self.running)
        assert all(count <= self.slots // 2 for count in each.values())

    def _forget_skipped(self):
        for job, _ in self.skipped:
            self.waiting.remove(job)
            if self.others_since.get(job.holder, (None,))[0] is job:
                del self.others_since[job.holder]
                self._first_since(job.holder)
        self.skipped.clear()

    def _first_since(self, holder):
        first = next((one for one in self.waiting if one.holder == holder), None)
        if first and holder not in self.others_since:
            self.others_since[holder] = (first, Counter())


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=60)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 1000)), max_size=60))
def test_everything_that_waits_is_served_in_its_holders_order(jobs):
    """Nobody starves, and nobody's own pictures overtake each other."""
    waiting = [Job(holder, cost) for holder, cost in jobs]
    queue = queue_of(*waiting, slots=2)
    served = list(iter(lambda: run_next(queue), None))
    for holder in "abc":
        assert [one for one in served if one.holder == holder] == [
            one for one in waiting if one.holder == holder
        ]
