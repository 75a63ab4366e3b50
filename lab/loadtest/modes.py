"""A mode of the load test as the edge's own configuration, checked before anything is started."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from spillover.common.errors import ConfigError
from spillover.common.tasks.base import TaskSpec
from spillover.edge.assembly.policy import build_policy
from spillover.edge.config import EdgeConfig
from spillover.edge.inference.temporal import build_temporal
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.loadtest.edges import edge_config


def edge_of(config: LoadConfig, mode: str) -> EdgeConfig:
    """The edge.yaml of `mode`, but for camera and addresses. Raises ConfigError, naming mode and key."""
    camera = {"camera": {"source": "-"}}
    raw = edge_config(config.edge_model, config.deadline_s, [config.edge, config.modes[mode]], camera)
    try:
        return msgspec.convert(raw, EdgeConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"modes.{mode} makes no edge.yaml: {error}") from error


def check_fits(edge: EdgeConfig, mode: str, task: TaskSpec[Any]) -> None:
    """Refuse a policy or a temporal correction that is not for the model's task. Raises ConfigError."""
    try:
        build_temporal(edge.temporal, task)
        build_policy(edge, task, report_threshold=0.5, draw=lambda: 0.5)
    except ConfigError as error:
        raise ConfigError(f"modes.{mode}: {error}") from error


def modes_used(config: LoadConfig, only: Sequence[str]) -> Iterable[str]:
    """The modes that the scenarios in `only` (none: all) run, each once."""
    parts = [part for name, part in config.scenarios.items() if not only or name in only]
    return dict.fromkeys(mode for part in parts for mode in part.modes)
