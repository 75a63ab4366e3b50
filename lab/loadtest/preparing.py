"""Prepares and checks the pairs of models of a test before its first minute."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.locate import find_model_folder
from spillover.common.model.manifest import open_model_folder
from spillover.common.tasks.base import TaskSpec
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.cuts import prepare_cuts
from spillover.lab.loadtest.edges import check_fits, edge_of
from spillover.lab.loadtest.sweep import with_swept_modes
from spillover.lab.models.prepare.pair import CLOUD_MODEL, EDGE_MODEL, prepare_pair
from spillover.lab.terminal import Bar


@dataclass(slots=True)
class Prepared:
    """What the preparation of a test has found."""

    notes: list[str] = field(default_factory=list)
    """For readers of the report."""
    absent: dict[str, str] = field(default_factory=dict)
    """Scenarios that cannot be run for want of a model, and why."""


def prepare_pairs(config: LoadConfig, scenarios: Iterable[str], console: Console) -> Prepared:
    """Build what can be built, and check each pair and every mode that it runs.

    Raises:
        ModelError: a model is absent that a scenario needs which is not `optional`, or cannot be loaded.
        ConfigError: a pair is not one, or a mode does not fit it.
    """
    prepared = Prepared()
    for (edge_model, cloud_model), names in _by_pair(config, scenarios).items():
        if (edge_model, cloud_model) == (str(EDGE_MODEL), str(CLOUD_MODEL)):
            prepare_pair(console=console)
        mine = config.with_pair_of(config.scenarios[names[0]])
        try:
            task = _task_of(mine)
        except ModelError as error:
            needed = [name for name in names if not _is_optional(config, name)]
            if needed:
                raise
            prepared.absent |= dict.fromkeys(names, str(error))
            continue
        prepared.notes += _prepare_modes(mine, names, task)
    return prepared


def _by_pair(config: LoadConfig, scenarios: Iterable[str]) -> Mapping[tuple[str, str], list[str]]:
    pairs: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name in scenarios:
        mine = config.with_pair_of(config.scenarios[name])
        pairs[mine.edge_model, mine.cloud_model].append(name)
    return pairs


def _is_optional(config: LoadConfig, name: str) -> bool:
    scenario = config.scenarios[name]
    return scenario.optional or config.played_by(scenario).optional


def _task_of(config: LoadConfig) -> TaskSpec[Any]:
    """The task of a pair. Raises ModelError, and ConfigError where its models have two."""
    edge, cloud = (
        open_model_folder(find_model_folder(name)).task for name in (config.edge_model, config.cloud_model)
    )
    if edge is not cloud:
        raise ConfigError(
            f"edge_model and cloud_model do not belong together: {config.edge_model} is for {edge.name}, "
            f"{config.cloud_model} for {cloud.name}"
        )
    return edge


def _prepare_modes(config: LoadConfig, scenarios: Iterable[str], task: TaskSpec[Any]) -> list[str]:
    """Check the modes that a pair runs, swept ones too, and make the cuts that they need."""
    modes = dict.fromkeys(mode for name in scenarios for mode in config.scenarios[name].modes)
    swept = config
    if config.sweep and config.sweep.scenario in scenarios:
        swept = with_swept_modes(config, config.sweep)
        modes |= dict.fromkeys(mode for mode in swept.modes if mode not in config.modes)
    edges = {mode: edge_of(swept, mode) for mode in modes}
    for mode, edge in edges.items():
        check_fits(edge, mode, task)
    return prepare_cuts(edges.values(), Bar(), make=not config.cloud.address)
