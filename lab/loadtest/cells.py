"""The cells of a load test, and the order in which they run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from spillover.lab.loadtest.config import ScenarioConfig

T = TypeVar("T")

SETTLING = ("on_time_share", "in_time_share", "up_bytes_per_frame", "agreement", "accuracy")
"""The figures of which repeats are wanted until they settle."""
_LAST = 3


@dataclass(frozen=True, slots=True)
class CellPlan:
    """One mode over one link with one number of edges."""

    scenario: str
    mode: str
    link: str
    edges: int

    @property
    def name(self) -> str:
        """Its name in reports and on the terminal."""
        return f"{self.scenario} / {self.mode} / {self.link} / {self.edges}"

    @property
    def folder(self) -> str:
        """Its folder below the output."""
        return f"{self.scenario}/{self.mode}-{self.link}-{self.edges}"


def cells_of(name: str, scenario: ScenarioConfig) -> list[CellPlan]:
    """Every combination, modes changing fastest."""
    return [
        CellPlan(name, mode, link, edges)
        for link in scenario.links
        for edges in scenario.edges
        for mode in scenario.modes
    ]


def interleaved(items: Sequence[T], repeats: int) -> Iterator[tuple[int, T]]:
    """(repeat, item): every item once a repeat, each repeat beginning one item later.

    So a machine whose speed changes during the test affects all items alike, and no item always follows the
    same other.
    """
    for repeat in range(repeats):
        turn = repeat % len(items) if items else 0
        for item in (*items[turn:], *items[:turn]):
            yield repeat, item


def has_settled(runs: Sequence[Mapping[str, float]], within: float) -> bool:
    """Whether the last three repeats differ by no more than this share of their mean in every figure.

    The rule of NVIDIA's perf_analyzer: more repeats widen the range of all, so that says nothing.
    """
    if len(runs) < _LAST:
        return False
    for name in SETTLING:
        values = [run[name] for run in runs[-_LAST:] if name in run]
        if values and max(values) - min(values) > within * abs(sum(values) / len(values)):
            return False
    return True
