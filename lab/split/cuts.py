"""Finds every small set of tensors that separates a network's input from its outputs.

A set separates when each path from the input to an output passes through one of its tensors; it is a cut when
no tensor of it can be left out. A cut must meet any given path, so the search takes one path, and for each
tensor on it searches on with that tensor in the cut. The last tensor needs no search: those on all remaining
paths are found by counting paths.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from spillover.lab.split.graph import CHEAP, ActivationGraph

Cut = tuple[int, ...]


def find_cuts(graph: ActivationGraph, max_tensors: int = 3) -> list[Cut]:
    """All cuts of at most `max_tensors` tensors, as sorted numbers of tensors; nearest to the input first.

    Left out are the input itself, the outputs, tensors that are not float32 of known shape, and tensors that
    are beaten by one behind them (`dominated`).
    """
    allowed = sum(1 << n for n, t in enumerate(graph.tensors) if t.is_float)
    allowed &= ~(1 | sum(1 << n for n in {*graph.outputs, *dominated(graph)}))
    cuts = {tuple(sorted(cut)) for cut in _search(graph, (), allowed, max_tensors)}
    return sorted(
        (cut for cut in cuts if _is_minimal(graph, cut)), key=lambda cut: (graph.head_macs(cut), cut)
    )


def separates(graph: ActivationGraph, cut: Sequence[int]) -> bool:
    """Whether no path leads from the input to an output past `cut`."""
    return _path_past(graph, cut) is None


def dominated(graph: ActivationGraph) -> set[int]:
    """Tensors for which a later one is at least as good: no larger, and only cheap operators between.

    Between `x` and the next tensor `y` that all of x's paths pass may lie a diamond (x * sigmoid(x)); but
    no tensor there may depend on one outside it, because `y` would pull that into the head.
    """
    beaten = set()
    for number, tensor in enumerate(graph.tensors):
        join = _next_join(graph, number)
        if join is None or join in graph.outputs:
            continue
        between = _between(graph, number, join)
        closed = all(source in {number, *between} for n in between for source in graph.tensors[n].sources)
        cheap = all(graph.tensors[n].operator in CHEAP for n in between)
        target = graph.tensors[join]
        if closed and cheap and target.is_float and target.elements <= tensor.elements:
            beaten.add(number)
    return beaten


def _search(graph: ActivationGraph, chosen: Cut, allowed: int, left: int) -> Iterator[Cut]:
    path = _path_past(graph, chosen)
    if path is None:
        yield chosen
    elif left == 1:
        yield from ((*chosen, number) for number in _on_all_paths(graph, chosen) if allowed >> number & 1)
    elif left:
        for number in path:
            if allowed >> number & 1:
                yield from _search(graph, (*chosen, number), allowed, left - 1)
            allowed &= ~(1 << number)


def _path_past(graph: ActivationGraph, cut: Sequence[int]) -> list[int] | None:
    """A shortest path from input to an output that avoids `cut`."""
    came_from: dict[int, int] = {0: -1}
    queue, closed, outputs = deque([0]), frozenset(cut), frozenset(graph.outputs)
    while queue:
        number = queue.popleft()
        if number in outputs:
            path = [number]
            while (number := came_from[number]) >= 0:
                path.append(number)
            return path[::-1]
        for user in graph.users[number]:
            if user not in came_from and user not in closed:
                came_from[user] = number
                queue.append(user)
    return None


def _on_all_paths(graph: ActivationGraph, cut: Sequence[int]) -> list[int]:
    """Tensors on every path that avoids `cut`: as many paths lead through one as there are."""
    count = len(graph.tensors)
    closed = frozenset(cut)
    before = [0] * count
    before[0] = 1
    for number, tensor in enumerate(graph.tensors):
        if number and number not in closed:
            before[number] = sum(before[source] for source in tensor.sources)
    behind = [0] * count
    for number in reversed(range(count)):
        if number not in closed:
            behind[number] = (number in graph.outputs) + sum(behind[user] for user in graph.users[number])
    return [n for n in range(count) if before[n] * behind[n] == behind[0] > 0]


def _is_minimal(graph: ActivationGraph, cut: Cut) -> bool:
    return all(not separates(graph, cut[:i] + cut[i + 1 :]) for i in range(len(cut)))


def _next_join(graph: ActivationGraph, number: int) -> int | None:
    """The first tensor that all paths from `number` to an output pass (its immediate post-dominator)."""
    if number in graph.outputs:
        return None
    open_ends = set(graph.users[number])
    while open_ends:
        first = min(open_ends)
        if len(open_ends) == 1:
            return first
        if first in graph.outputs:
            return None
        open_ends.remove(first)
        open_ends.update(graph.users[first])
    return None


def _between(graph: ActivationGraph, start: int, end: int) -> set[int]:
    """Tensors on the paths from `start` (left out) to `end` (included)."""
    between, edge = {end}, [end]
    while edge:
        for source in graph.tensors[edge.pop()].sources:
            if source > start and graph.ancestors[source] >> start & 1 and source not in between:
                between.add(source)
                edge.append(source)
    return between
