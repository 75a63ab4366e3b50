"""From configuration to policy."""

from collections.abc import Mapping
from pathlib import Path

from spillover.common.errors import ConfigError
from spillover.common.model.manifest import Task
from spillover.common.types import Action
from spillover.edge.config import Mode, PolicyConfig, TemporalConfig
from spillover.edge.policy.audit import Audited
from spillover.edge.policy.base import Draw, Policy
from spillover.edge.policy.budget import Ranked
from spillover.edge.policy.gain import EdgeSide, GainModel
from spillover.edge.policy.refresh import Refreshed
from spillover.edge.policy.rules import EmptyRules, Fixed, LinkGuard, ScoreThreshold
from spillover.edge.policy.scores import SCORERS, Scorer, ScoreSettings
from spillover.edge.policy.variants import ChoosePayload

EXPECTED_GAIN = "expected_gain"
_AUTO = {Task.CLASSIFICATION: "max_softmax", Task.DETECTION: "near_threshold"}


def build_policy(
    mode: Mode,
    config: PolicyConfig,
    task: Task,
    report_threshold: float,
    draw: Draw,
    spool_from: float | None = None,
    temporal: TemporalConfig | None = None,
    edge: EdgeSide | None = None,
) -> Policy:
    """The policy of this mode for a model of this task; `spool_from` is as `LinkGuard` has it.

    `edge` is what predicts; a gain file has to be for that.

    Raises:
        ConfigError: the scorer is unknown, or is for the other task or another edge.
    """
    if mode is Mode.EDGE_ONLY:
        return Fixed(Action.KEEP)
    if mode is Mode.CLOUD_ONLY:
        return LinkGuard(_within_budget(ChoosePayload(Fixed(Action.SEND_FRAME)), config), spool_from)
    scorer = _scorer(config, task, edge)
    settings = ScoreSettings(report_threshold, config.band)
    empty = EmptyRules(config.empty_audit_share, config.motion_gain, config.lost_track_gain)
    rule = ScoreThreshold(scorer, settings, config.threshold, empty, draw)
    within = _within_budget(ChoosePayload(rule), config)
    if temporal and temporal.refresh_s:
        within = Refreshed(within, temporal.refresh_s)
    return LinkGuard(Audited(within, config.audit_share, draw), spool_from)


def measured_fidelity(config: PolicyConfig) -> Mapping[str, float]:
    """What the gain file, where there is one, says of the picture variants. Raises ConfigError."""
    return GainModel.load(Path(config.gain_file)).file.fidelity if config.gain_file else {}


def _within_budget(policy: Policy, config: PolicyConfig) -> Policy:
    return Ranked(policy) if config.budget else policy


def _scorer(config: PolicyConfig, task: Task, edge: EdgeSide | None) -> Scorer:
    kind = config.kind
    if kind == EXPECTED_GAIN:
        return _gain_scorer(config.gain_file, task, edge)
    fitting = [name for name, scorer in SCORERS.items() if scorer.task is task]
    name = _AUTO[task] if kind == "auto" else kind
    if name not in fitting:
        raise ConfigError(
            f"policy.kind is {kind!r}; for a model of task {task.value} it may be auto, "
            f"{EXPECTED_GAIN}, {', '.join(fitting)}"
        )
    return SCORERS[name]


def _gain_scorer(gain_file: str, task: Task, edge: EdgeSide | None) -> Scorer:
    if not gain_file:
        raise ConfigError("policy.kind is 'expected_gain': policy.gain_file must name what `lab fit` wrote")
    model = GainModel.load(Path(gain_file))
    if model.file.task is not task:
        raise ConfigError(f"policy.gain_file {gain_file}: is for {model.file.task.value}, not {task.value}")
    if edge is not None:
        model.check_fits(edge)
    return Scorer(task, lambda prediction, _: model.gain(prediction))
