"""The pairs of models that the demo can run, and how each is configured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from spillover.common.home import models_home
from spillover.lab.models.prepare import detection
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL, prepare_pair

if TYPE_CHECKING:
    from rich.console import Console

AUTO = "auto"
"""The detection pair where it is prepared, the classification pair otherwise."""


EDGE_SIDE = 256
"""Pixels a side that the edge's detector sees: what leaves a core of a small device time to spare."""


@dataclass(frozen=True, slots=True)
class DemoPair:
    """Two prepared models, by their folders below the models' home, and the edge's keys for mode hybrid."""

    edge: Path
    cloud: Path
    prepare: "Callable[[Console], None]"
    hybrid: Mapping[str, Any]

    @property
    def is_prepared(self) -> bool:
        """Whether both folders are there."""
        return all((models_home() / folder / "model.yaml").is_file() for folder in (self.edge, self.cloud))


def _prepare_classification(console: "Console") -> None:
    prepare_pair(console=console)


def _prepare_detection(console: "Console") -> None:
    detection.prepare_detection(side=EDGE_SIDE, console=console)


PAIRS: Mapping[str, DemoPair] = MappingProxyType(
    {
        "classification": DemoPair(
            EDGE_MODEL,
            CLOUD_MODEL,
            _prepare_classification,
            {"policy": {"kind": "max_softmax", "send_share": 0.25}},
        ),
        "detection": DemoPair(
            detection.edge_model(EDGE_SIDE),
            detection.CLOUD_MODEL,
            _prepare_detection,
            {"policy": {"send_share": 0.1}},
        ),
    }
)


def chosen(name: str) -> DemoPair:
    """The pair of this name, or for `auto` the best that is prepared."""
    if name != AUTO:
        return PAIRS[name]
    detection = PAIRS["detection"]
    return detection if detection.is_prepared else PAIRS["classification"]
