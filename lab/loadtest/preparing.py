"""Prepares and checks the pairs of models of a test before its first minute."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from spillover.common.errors import ConfigError, InvalidInputError, ModelError
from spillover.common.model.locate import find_model_folder
from spillover.common.model.manifest import open_model_folder
from spillover.common.tasks.base import TaskSpec
from spillover.edge.config import EdgeConfig, PayloadKind
from spillover.edge.payload.video import check_codec
from spillover.lab.loadtest.budgets import steady_budget
from spillover.lab.loadtest.config import EdgeKind, LoadConfig
from spillover.lab.loadtest.cuts import prepare_cuts
from spillover.lab.loadtest.edges import check_fits, edge_of
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
            if not all(_is_optional(config, name) for name in names):
                raise
            prepared.absent |= dict.fromkeys(names, str(error))
            continue
        edges = _edges_of(mine, names)
        for mode, edge in edges.items():
            check_fits(edge, mode, task)
        prepared.notes += _notes_on_budgets(mine, names)
        prepared.absent |= _without_codec(mine, names, edges)
        prepared.notes += prepare_cuts(edges.values(), Bar(), make=not config.cloud.address)
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


def _edges_of(config: LoadConfig, scenarios: Iterable[str]) -> dict[str, EdgeConfig]:
    """The modes that a pair runs, as an edge.yaml each. Raises ConfigError."""
    modes = dict.fromkeys(mode for name in scenarios for mode in config.scenarios[name].modes)
    return {mode: edge_of(config, mode) for mode in modes}


def _notes_on_budgets(config: LoadConfig, scenarios: Iterable[str]) -> list[str]:
    """How the byte budgets of these scenarios' real edges are played.

    Raises:
        ConfigError: one can never send a frame.
    """
    notes: dict[str, None] = {}
    for scenario in (config.scenarios[name] for name in scenarios):
        for mode in scenario.modes if scenario.kind is EdgeKind.REAL else ():
            if budget := steady_budget(config, mode):
                notes[budget.note(scenario.fps)] = None
    return list(notes)


def _without_codec(
    config: LoadConfig, scenarios: Iterable[str], edges: Mapping[str, EdgeConfig]
) -> dict[str, str]:
    """Optional scenarios of which a mode sends video, where none can be coded here: JPEG would be measured.

    Raises:
        ConfigError, InvalidInputError: one that needs it is not optional; or simulated edges, which replay
            payloads one by one, should send a stream.
    """
    absent = {}
    for name in scenarios:
        scenario = config.scenarios[name]
        modes = [mode for mode in scenario.modes if edges[mode].uplink.payload is PayloadKind.VIDEO]
        if not modes:
            continue
        if scenario.kind is EdgeKind.SIMULATED:
            raise ConfigError(
                f"scenarios.{name}.modes: simulated edges cannot send video: take out {modes[0]}"
            )
        try:
            check_codec(edges[modes[0]].uplink)
        except (ConfigError, InvalidInputError) as error:
            if not scenario.optional:
                raise
            absent[name] = str(error)
    return absent
