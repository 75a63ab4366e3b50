"""Modes that send everything: what the bytes of other modes are shares of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from spillover.edge.config import Mode
from spillover.lab.files import merged
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.results import Cell

BYTES = "up_bytes_per_frame"
NEARLY_ALL = 0.98
"""A mode that sends so much of its frames sends everything."""
_REASONS = 3


def baselines(cells: Sequence[Cell], config: Mapping[str, Any]) -> list[str]:
    """The modes of these cells that are pure cloud by the test's configuration, in their order."""
    used = dict.fromkeys(cell.mode for cell in cells)
    return [mode for mode in used if is_pure_cloud(merged(config["edge"], config["modes"][mode]))]


def is_pure_cloud(asked: Mapping[str, Any]) -> bool:
    """Whether these changes to edge.yaml offer every frame to the link, whatever the edge expects of it."""
    return asked.get("mode") == Mode.CLOUD_ONLY.value and not asked.get("uplink", {}).get("forecast")


def share_shown(cell: Cell, baseline: str, cells: Sequence[Cell]) -> str:
    """Bytes up of a cell as a share of the baseline's over the same link with as many edges, or a dash."""
    where = (cell.scenario, baseline, cell.link, cell.edges)
    whole = next((c.figure(BYTES) for c in cells if (c.scenario, c.mode, c.link, c.edges) == where), None)
    mine = cell.figure(BYTES)
    return f"{mine / whole:.1%}" if mine is not None and whole else "-"


def silent(cells: Sequence[Cell], config: LoadConfig) -> Iterator[str]:
    """Notes on cells of real edges that sent nothing though they may: the most frequent reasons."""
    every = config.edge.get("mode")
    for cell in cells:
        mode = config.modes[cell.mode].get("mode", every)
        if cell.kind != "real" or mode == Mode.EDGE_ONLY.value or cell.figure("sent_share") != 0:
            continue
        most = sorted(cell.reasons.items(), key=lambda item: -item[1])[:_REASONS]
        why = ", ".join(f"{reason} ({count} frames)" for reason, count in most)
        yield f"{cell.name}: sent nothing: {why or 'its policy wanted the cloud for no frame'}"


def held_back(cells: Sequence[Cell], config: LoadConfig) -> Iterator[str]:
    """Notes on cells of real edges that should have sent everything, and could not."""
    everything = baselines(cells, msgspec.to_builtins(config))
    for cell in cells:
        sent = cell.figure("sent_share")
        if cell.mode in everything and cell.kind == "real" and sent is not None and 0 < sent < NEARLY_ALL:
            yield (
                f"{cell.name}: sent {sent:.0%} of its frames: link or server take no more, so other modes' "
                "bytes are a share of less than everything"
            )
