"""What runs cost, and how long it pays to wait for the clients that were just answered."""

import math
import time

import pytest

from spillover.cloud.executors.latency import SHORT_S, LatencyModel
from spillover.cloud.serving.batching.window import BatchWindow

A_MINUTE = 60.0


def _costs(one_s: float, many_s: float, many: int = 8) -> LatencyModel:
    costs = LatencyModel(many)
    costs.learn(1, one_s)
    costs.learn(many, many_s)
    return costs


def test_nothing_is_known_before_the_first_run():
    """Unknown costs are infinite, so nothing is run on the event loop; and nothing is worth a wait."""
    assert LatencyModel().expected_s(1) == LatencyModel().expected_s(3) == math.inf
    assert LatencyModel().overhead_s == 0


def test_what_a_run_costs_beside_its_rows():
    """8 s for one row and 15 s for eight: a row is 1 s, and 7 s are paid once a run."""
    costs = _costs(8, 15)
    assert costs.overhead_s == pytest.approx(7)
    assert costs.expected_s(4) == pytest.approx(11)


def test_rows_that_cost_as_much_alone_are_not_waited_for():
    """A network whose batches gain nothing has no fixed costs, however uneven the measurements."""
    assert _costs(1, 8).overhead_s == 0
    assert _costs(1, 5).overhead_s == 0
    assert _costs(1, 9).expected_s(2) == 2


def test_a_disturbed_run_teaches_nothing():
    """The quickest run of a kind counts, whenever it came; other kinds do not."""
    costs = _costs(9, 30)
    costs.learn(8, 15)
    costs.learn(1, 8)
    costs.learn(8, 90)
    costs.learn(5, 0.1)
    assert costs.overhead_s == pytest.approx(7)


def test_a_lone_client_is_not_delayed():
    """One row was answered and one is there: nobody else is expected."""
    returning = BatchWindow(_costs(8 * A_MINUTE, 15 * A_MINUTE), max_rows=8)
    assert returning.wait_budget_s(1, time.monotonic()) <= 0
    returning.answered(1, waiting=0)
    assert returning.wait_budget_s(1, time.monotonic()) <= 0


def test_clients_just_answered_are_waited_for_until_all_are_back():
    """Five answered and two that came meanwhile are seven; the full batch ends the wait as well."""
    returning = BatchWindow(_costs(8 * A_MINUTE, 15 * A_MINUTE), max_rows=8)
    returning.answered(5, waiting=2)
    assert returning.wait_budget_s(6, time.monotonic()) > A_MINUTE
    assert returning.wait_budget_s(7, time.monotonic()) <= 0
    returning.answered(8, waiting=40)
    assert returning.wait_budget_s(8, time.monotonic()) <= 0


def test_who_does_not_come_back_is_given_up():
    """Four times what a run costs beside its rows is the longest between two; nor long after the answers."""
    returning = BatchWindow(_costs(8 * A_MINUTE, 15 * A_MINUTE), max_rows=8)
    returning.answered(8, waiting=0)
    assert returning.wait_budget_s(3, time.monotonic() - 29 * A_MINUTE) <= 0
    stale = BatchWindow(_costs(0.0, 0.0), max_rows=8)
    stale.answered(8, waiting=0)
    assert stale.wait_budget_s(3, time.monotonic()) <= 0


def _until_short_again(costs: LatencyModel) -> int:
    """Runs of 1 ms until recent runs count as short."""
    runs = 0
    while not costs.recently_short:
        costs.learn(1, 1e-3)
        runs += 1
    return runs


def test_a_slow_run_bars_a_network_for_longer_each_time():
    """64 short runs after the first slow one, then 128, ...: a network whose time depends on values."""
    costs = LatencyModel()
    assert costs.recently_short
    waits = []
    for _ in range(4):
        costs.learn(1, 2 * SHORT_S)
        waits.append(_until_short_again(costs))
    assert waits == [64, 128, 256, 512]


def test_a_slow_run_while_barred_starts_the_wait_anew():
    """Only short runs one after the other count."""
    costs = LatencyModel()
    costs.learn(1, 2 * SHORT_S)
    for _ in range(63):
        costs.learn(1, 1e-3)
    costs.learn(5, 2 * SHORT_S)
    assert _until_short_again(costs) == 128
