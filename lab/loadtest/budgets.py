"""Byte budgets in a test: each run begins as after a typical day, and its balance stays in its own folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spillover.common.config import under_key
from spillover.edge.config import Mode
from spillover.edge.link.byte_budget import SavedTokens, budget_of
from spillover.edge.policy.budget import WINDOW
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.edges import edge_of


@dataclass(frozen=True, slots=True)
class SteadyBudget:
    """The budget of a mode, and what its bucket holds in the long run."""

    mode: str
    is_ranked: bool
    """Frames that gain more go first, which keeps the bucket half full; else it is emptied at once."""
    bucket_bytes: float
    left_bytes: float
    refill_bytes_per_s: float

    def warm_up_s(self, fps: float, pass_s: float, usual_s: float) -> float:
        """Seconds until frames are ranked among as many as on a device that has run for long.

        One pass of the source is enough: then all its frames are known.
        """
        return max(usual_s, min(WINDOW / fps, pass_s)) if self.is_ranked else usual_s

    def begin(self, folder: Path, edge: int) -> dict[str, Any]:
        """Write the balance with which an edge begins; returns the key of its policy that names the file."""
        path = (folder / f"edge-{edge}.budget.json").absolute()
        saved = SavedTokens(path)
        saved.save(self.left_bytes)
        saved.close()
        return {"budget": {"state_file": str(path)}}

    def note(self, fps: float) -> str:
        """What was assumed, for readers of the report."""
        level, ranks = "empty, as frames that are not ranked keep it", ""
        if self.is_ranked:
            level = "half full, as ranks keep it"
            ranks = (
                f". Frames are ranked among {WINDOW}: the warm-up lasts so many, or one pass of the source"
            )
        return (
            f"mode {self.mode} plays its byte budget as after a typical day: each run begins with a bucket "
            f"of {self.bucket_bytes / 1e6:,.2f} MB that is {level}, and earns "
            f"{self.refill_bytes_per_s / fps:,.0f} B a frame, headers included{ranks}"
        )


def steady_budget(config: LoadConfig, mode: str) -> SteadyBudget | None:
    """The budget of a mode; None where it has none. Raises ConfigError: it could never send a frame."""
    edge = edge_of(config, mode)
    if edge.policy.budget is None or edge.mode is Mode.EDGE_ONLY:
        return None
    with under_key(f"modes.{mode}"):
        budget, connection_bytes = budget_of(edge.policy.budget, edge.uplink)
    ranked = edge.mode is Mode.HYBRID
    return SteadyBudget(
        mode,
        ranked,
        budget.bucket_bytes,
        budget.bucket_bytes / 2 if ranked else connection_bytes,
        budget.refill_bytes_per_s,
    )
