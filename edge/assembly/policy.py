"""Builds the policy from the configuration."""

import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from spillover.common.config import under_key
from spillover.common.config.words import did_you_mean, listing
from spillover.common.errors import ConfigError
from spillover.common.model.classes import class_ids
from spillover.common.model.pictures import VisionModel
from spillover.common.tasks.base import TaskSpec
from spillover.common.types import Prediction
from spillover.edge.config import EdgeConfig, Mode, PolicyConfig
from spillover.edge.inference.reported import ReportFilter
from spillover.edge.policy.base import Draw, Rule, all_frames
from spillover.edge.policy.budget import RankByBudget
from spillover.edge.policy.chain import KEEP_ALL, SEND_ALL, Audit, EmptyRules, Policy, Refresh, ScoreThreshold
from spillover.edge.policy.forms import ChoosePayload
from spillover.edge.policy.gain import EdgeSide, GainModel
from spillover.edge.policy.guard import LinkGuard
from spillover.edge.policy.scores import ScoreSettings, scorers_for
from spillover.edge.policy.share import thresholds_for

AUTO = "auto"
"""What an answer is worth to tracks where there are any, else the task's own score."""
EXPECTED_GAIN = "expected_gain"


def policy_for(config: EdgeConfig, model: VisionModel, camera_id: str = "") -> Policy:
    """The policy for a device with this model, or for one camera that has its own.

    Raises:
        ConfigError: a value does not fit the model.
    """
    seed = f"{config.policy.seed} {camera_id}" if camera_id else config.policy.seed
    draw = random.Random(seed).random  # noqa: S311 - a sample of frames, not a secret
    edge = EdgeSide.of(model.manifest, config.model.multi_view)
    return build_policy(config, model.folder.task, report_threshold(config, model), draw, edge)


def report_threshold(config: EdgeConfig, model: VisionModel) -> float:
    """The confidence from which boxes are reported."""
    configured = config.model.report_threshold
    return model.manifest.output.reported_from if configured is None else configured


def report_filter(config: EdgeConfig, model: VisionModel) -> ReportFilter:
    """Which boxes are reported.

    Raises:
        ConfigError: the model gives no boxes, or does not have a named class.
    """
    classes, thresholds = config.model.classes, config.model.class_thresholds
    for key, given in (("classes", classes), ("class_thresholds", thresholds)):
        if given and not model.folder.task.locates:
            raise ConfigError(f"model.{key}: the model gives no boxes; it is for detectors")
    labels, count = model.folder.labels, model.class_count
    numbers = class_ids(thresholds, labels, count, "model.class_thresholds")
    return ReportFilter(
        report_threshold(config, model),
        dict(zip(numbers, thresholds.values(), strict=True)),
        frozenset(class_ids(classes, labels, count, "model.classes")),
    )


def build_policy(
    config: EdgeConfig,
    task: TaskSpec[Any],
    report_threshold: float,
    draw: Draw,
    edge: EdgeSide | None = None,
) -> Policy:
    """The policy of this mode for a model of this task; its rules apply in the order of `policy.chain`.

    `edge` is what predicts; a gain file has to be for that.

    Raises:
        ConfigError: the scorer is unknown, or is for the other task or another edge.
    """
    policy = config.policy
    if config.mode is Mode.EDGE_ONLY:
        return Policy(KEEP_ALL, ())
    spool_from = config.spool.min_gain if config.spool else None
    rules: list[Rule] = [ChoosePayload(), LinkGuard(spool_from, forecast=config.uplink.forecast)]
    rank = RankByBudget() if policy.budget else None
    if rank:
        rules.append(rank)
    if config.mode is Mode.CLOUD_ONLY:
        return Policy(SEND_ALL, rules)
    empty = EmptyRules(policy.empty_audit_share, policy.motion_gain, policy.lost_track_gain)
    gain = _gain_model(policy, task, edge) if policy.kind == EXPECTED_GAIN else None
    thresholds = thresholds_for(
        policy.send_share,
        policy.threshold,
        # A budget's ranks choose among all; audits give a threshold of their own.
        else_any=policy.budget is not None or policy.max_error is not None,
        seen=gain.file.gain_quantiles if gain else (),
    )
    most_drawn = rank.most_drawn if rank else all_frames
    rules += [
        ScoreThreshold(thresholds, empty, draw, most_drawn, by_tracks=policy.kind == AUTO),
        Audit(policy.audit_share, draw, most_drawn),
    ]
    if config.temporal and config.temporal.refresh_s:
        rules.append(Refresh(config.temporal.refresh_s))
    score = gain.gain if gain else _score(policy, task, report_threshold)
    return Policy(KEEP_ALL, rules, score)


def measured_fidelity(config: PolicyConfig) -> Mapping[str, float]:
    """What the gain file, where there is one, says of the picture variants. Raises ConfigError."""
    return load_gain_file(config.gain_file).file.fidelity if config.gain_file else {}


def _score(
    config: PolicyConfig, task: TaskSpec[Any], report_threshold: float
) -> Callable[[Prediction], float | None]:
    fitting = scorers_for(task.name)
    name = task.scorer if config.kind == AUTO else config.kind
    if name not in fitting:
        possible = (AUTO, EXPECTED_GAIN, *fitting)
        raise ConfigError(
            f"policy.kind: must be {listing(possible)} for a model of task {task.name}, not {config.kind!r}"
            f"{did_you_mean(config.kind, possible)}"
        )
    _check_reachable(config, name, fitting[name].most, task)
    return partial(fitting[name], settings=ScoreSettings(report_threshold, config.band))


def _check_reachable(config: PolicyConfig, name: str, most: float, task: TaskSpec[Any]) -> None:
    """Refuse a threshold above every score: nothing would ever be sent, and nobody would be told."""
    if task.locates:  # a frame without boxes may score by what moves
        most = max(most, config.motion_gain + config.lost_track_gain)
    if config.threshold is not None and config.threshold > most:
        raise ConfigError(
            f"policy.threshold: {config.threshold:g} is never reached: {name} goes from 0 to {most:g}"
        )


def _gain_model(config: PolicyConfig, task: TaskSpec[Any], edge: EdgeSide | None) -> GainModel:
    gain_file = config.gain_file
    if not gain_file:
        raise ConfigError("policy.gain_file: is missing; kind: expected_gain needs what `lab fit` wrote")
    model = load_gain_file(gain_file)
    if model.file.task != task.name:
        raise ConfigError(f"policy.gain_file {gain_file}: is for {model.file.task}, not {task.name}")
    if edge is not None:
        with under_key("policy.gain_file"):
            model.check_fits(edge)
    most = max((1.0, *model.file.gain_quantiles[-1:]))
    if config.threshold is not None and config.threshold > most:
        raise ConfigError(
            f"policy.threshold: {config.threshold:g} is never reached: no gain is above {most:g}"
        )
    return model


def load_gain_file(path: str) -> GainModel:
    """What `policy.gain_file` names. Raises ConfigError, naming key and file."""
    with under_key("policy.gain_file"):
        return GainModel.load(Path(path).expanduser())
