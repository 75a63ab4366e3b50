"""From configuration to policy."""

from common.errors import ConfigError
from common.model.manifest import Task
from common.types import Action
from edge.config import Mode, PolicyConfig
from edge.policy.base import Draw, Policy
from edge.policy.rules import Fixed, LinkGuard, ScoreThreshold
from edge.policy.scores import SCORERS, Scorer, ScoreSettings

_AUTO = {Task.CLASSIFICATION: "max_softmax", Task.DETECTION: "near_threshold"}


def build_policy(
    mode: Mode,
    config: PolicyConfig,
    task: Task,
    report_threshold: float,
    draw: Draw,
    spool_from: float | None = None,
) -> Policy:
    """The policy of this mode for a model of this task; `spool_from` is as `LinkGuard` has it.

    Raises:
        ConfigError: the scorer is unknown, or is for the other task.
    """
    if mode is Mode.EDGE_ONLY:
        return Fixed(Action.KEEP)
    if mode is Mode.CLOUD_ONLY:
        return LinkGuard(Fixed(Action.SEND_FRAME), spool_from)
    scorer = _scorer(config.kind, task)
    settings = ScoreSettings(report_threshold, config.band)
    rule = ScoreThreshold(scorer, settings, config.threshold, config.empty_audit_share, draw)
    return LinkGuard(rule, spool_from)


def _scorer(kind: str, task: Task) -> Scorer:
    fitting = [name for name, scorer in SCORERS.items() if scorer.task is task]
    name = _AUTO[task] if kind == "auto" else kind
    if name not in fitting:
        raise ConfigError(
            f"policy.kind is {kind!r}; for a model of task {task.value} it may be auto, {', '.join(fitting)}"
        )
    return SCORERS[name]
