"""The cuts of a network that are worth measuring."""

import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from spillover.common.errors import ModelError
from spillover.lab.data.pictures import evenly_spread
from spillover.lab.split.cuts import Cut
from spillover.lab.split.graph import ActivationGraph

CANDIDATES = 14
_LONGEST_NAME = 60

T = TypeVar("T")

Costs = Callable[[T], tuple[float, float]]


def pareto(items: Sequence[T], costs: Costs[T]) -> list[T]:
    """The items that no other beats in one cost without losing in the other; by ascending first cost."""
    front: list[T] = []
    for item in sorted(items, key=costs):
        if not front or costs(item)[1] < costs(front[-1])[1]:
            front.append(item)
    return front


def fronts(items: Sequence[T], costs: Costs[T], count: int) -> list[T]:
    """At most `count` items: the Pareto set, then the Pareto set of the others, and so on."""
    left, taken = list(items), list[T]()
    while left and len(taken) < count:
        front = pareto(left, costs)
        taken += evenly_spread(front, count - len(taken))
        left = [item for item in left if item not in front]
    return sorted(taken, key=costs)


def candidate_cuts(graph: ActivationGraph, cuts: Sequence[Cut]) -> list[Cut]:
    """The cuts worth measuring: little work before them, few elements in them.

    An element costs one bit or two where an input's element has eight; so a cut with more than four times the
    input's elements could not even beat the picture uncompressed.
    """

    def elements(cut: Cut) -> int:
        return sum(graph.tensors[number].elements for number in cut)

    small = [cut for cut in cuts if elements(cut) <= 4 * graph.tensors[0].elements and graph.computes(cut)]
    return fronts(small, lambda cut: (graph.head_macs(cut), elements(cut)), CANDIDATES)


def named_cuts(graph: ActivationGraph, cuts: Sequence[Cut], names: Sequence[str]) -> list[Cut]:
    """The cuts of these names, nearest to the input first. Raises ModelError where one is not among them."""
    by_name = {cut_name([graph.tensors[number].name for number in cut]): cut for cut in cuts}
    for name in names:
        if name not in by_name:
            raise ModelError(f"the network has no cut {name!r}; it has {', '.join(sorted(by_name))}")
    return sorted({by_name[name] for name in names}, key=graph.head_macs)


def cut_name(tensors: Sequence[str]) -> str:
    """A file name from the tensors' names; of many or long ones the first, and a checksum of all."""
    plain = ["".join(c if c.isalnum() or c in "._" else "-" for c in name).strip("-._") for name in tensors]
    whole = "-and-".join(name or "cut" for name in plain)
    if len(whole) <= _LONGEST_NAME:
        return whole
    return f"{whole[:_LONGEST_NAME]}-{zlib.crc32(chr(0).join(tensors).encode()):08x}"
