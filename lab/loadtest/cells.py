"""The cells of a load test, and the order in which they run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from spillover.lab.loadtest.config import ScenarioConfig

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

    So a machine whose speed changes during the test affects all items alike, and no item always follows the
    same other.
    """
    for repeat in range(repeats):
        turn = repeat % len(items) if items else 0
        for item in (*items[turn:], *items[:turn]):
            yield repeat, item
