"""Which cuts are worth measuring, and which of the measured ones are worth keeping."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

Costs = Callable[[T], tuple[float, float]]


def pareto(items: Sequence[T], costs: Costs[T]) -> list[T]:
    """Those that no other beats in one cost without losing in the other; by ascending first cost."""
    kept: list[T] = []
    best = float("inf")
    for item in sorted(items, key=costs):
        if costs(item)[1] < best:
            best = costs(item)[1]
            kept.append(item)
    return kept


def fronts(items: Sequence[T], costs: Costs[T], count: int) -> list[T]:
    """At most `count` items: the Pareto set, then the Pareto set of the others, and so on."""
    left, taken = list(items), list[T]()
    while left and len(taken) < count:
        front = pareto(left, costs)
        taken += thinned(front, count - len(taken))
        left = [item for item in left if item not in front]
    return sorted(taken, key=costs)


def thinned(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of a sequence, evenly spread, ends included."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]
