"""The policy as the daemon builds it, and a decision as the pipeline asks for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from spillover.common.tasks.base import TaskSpec
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.types import Decision, Prediction
from spillover.edge.assembly.policy import build_policy
from spillover.edge.config import (
    CameraConfig,
    EdgeConfig,
    Mode,
    ModelConfig,
    SpoolConfig,
    TemporalConfig,
    UplinkConfig,
)
from spillover.edge.config.policy import PolicyConfig
from spillover.edge.policy.base import Context
from spillover.edge.policy.chain import Policy
from spillover.edge.policy.gain import EdgeSide

REPORT_THRESHOLD = 0.5


def policy_of(
    mode: Mode = Mode.HYBRID,
    task: TaskSpec[Any] = CLASSIFICATION,
    draw: float | Callable[[], float] = 0.5,
    *,
    spool_from: float | None = None,
    refresh_s: float | None = None,
    edge: EdgeSide | None = None,
    forecast: bool = True,
    **keys: object,
) -> Policy:
    """`draw` is fixed, or a function; `keys` are those of `policy:` in edge.yaml."""
    config = EdgeConfig(
        camera=CameraConfig("-"),
        model=ModelConfig("-"),
        mode=mode,
        policy=PolicyConfig(**keys),  # type: ignore[arg-type]
        uplink=UplinkConfig(forecast=forecast),
        temporal=TemporalConfig(refresh_s=refresh_s) if refresh_s else None,
        spool=SpoolConfig("spool", min_gain=spool_from) if spool_from is not None else None,
    )
    drawn = draw if callable(draw) else lambda: draw
    return build_policy(config, task, REPORT_THRESHOLD, drawn, edge)


def decide(policy: Policy, prediction: Prediction, context: Context) -> Decision:
    """Decide on a prediction in a context that leaves it out."""
    boxes = prediction.boxes
    empty = boxes is not None and not len(boxes.above(REPORT_THRESHOLD))
    surroundings = replace(context.surroundings, empty=empty)
    return policy.decide(replace(context, score=policy.score(prediction), surroundings=surroundings))
