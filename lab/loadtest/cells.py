"""The cells of the matrix, and the order in which they are run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from spillover.lab.loadtest.config import LoadConfig, ScenarioConfig

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CellPlan:
    """One mode over one link with one number of edges."""

    scenario: str
    mode: str
    link: str
    edges: int

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

    So a machine that grows slower or faster during the test, or a neighbour that wakes up, touches all items
    alike, and none always follows the same other.
    """
    for repeat in range(repeats):
        turn = repeat % len(items) if items else 0
        for item in (*items[turn:], *items[:turn]):
            yield repeat, item


def estimated_s(config: LoadConfig, overhead_s: float = 5.0) -> float:
    """About how long the matrix takes; scenarios whose window is a whole pass count as a minute a run."""
    return sum(
        len(cells_of(name, s)) * s.repeats * ((s.window_s or 60.0) + s.warm_up_s + overhead_s)
        for name, s in config.scenarios.items()
    )
