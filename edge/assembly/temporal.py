"""Builds the temporal stage of a camera: a tracker for detectors, a corrector for classifiers."""

from typing import Any

from spillover.common.errors import ConfigError
from spillover.common.tasks.base import TaskSpec
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.edge.config import EdgeConfig, TrackingConfig
from spillover.edge.inference.temporal import LastAnswerCorrector
from spillover.edge.tracking.stage import NoCorrection, TemporalStage
from spillover.edge.tracking.tracker import Tracker, TrackerSettings


def build_temporal(
    config: EdgeConfig,
    task: TaskSpec[Any],
    report_threshold: float = 0.0,
    hidden: frozenset[int] = frozenset(),
) -> TemporalStage:
    """What `temporal` and `tracking` ask for; `hidden` are the classes that the cloud is not shown.

    Raises:
        ConfigError: a section is for another task.
    """
    if config.temporal is not None and task.name != CLASSIFICATION.name:
        instead = "; its boxes are tracked, see `tracking`" if task.name == DETECTION.name else ""
        raise ConfigError(f"temporal: is for {CLASSIFICATION.name}, not for {task.name}{instead}")
    if config.tracking not in {None, TrackingConfig()} and task.name != DETECTION.name:
        raise ConfigError(f"tracking: is for {DETECTION.name}, not for {task.name}")
    if task.name == DETECTION.name and config.tracking is not None:
        settings = TrackerSettings(int(config.tracking.memory_mb * 1e6), hidden)
        return Tracker(settings, report_threshold)
    if config.temporal is not None:
        return LastAnswerCorrector(config.temporal)
    return NoCorrection()
