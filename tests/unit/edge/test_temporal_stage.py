"""Which temporal stage a camera has: a tracker for detectors, a corrector for classifiers, or none."""

from typing import Any

import numpy as np
import pytest

from spillover.common.errors import ConfigError
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.edge.assembly.temporal import build_temporal
from spillover.edge.config import CameraConfig, EdgeConfig, ModelConfig, TemporalConfig, TrackingConfig
from spillover.edge.inference.temporal import LastAnswerCorrector
from spillover.edge.tracking.stage import NoCorrection
from spillover.edge.tracking.tracker import Tracker
from tests.support.edge_values import detections


def _with(**sections: Any) -> EdgeConfig:
    return EdgeConfig(model=ModelConfig("m"), camera=CameraConfig("v"), **sections)


def test_a_detector_is_tracked_unless_the_operator_says_no() -> None:
    """By default; `tracking: null` shows its own boxes unchanged, and the cloud's nowhere else."""
    assert isinstance(build_temporal(_with(), DETECTION), Tracker)
    nothing = build_temporal(_with(tracking=None), DETECTION)
    assert isinstance(nothing, NoCorrection)
    boxes = detections(0.9)
    assert nothing.correct(boxes, np.zeros((4, 4, 3), np.uint8), 0.0).prediction is boxes
    assert nothing.counts() is None


def test_a_classifier_is_corrected_if_the_operator_says_so() -> None:
    """The default of `tracking` is no mistake there."""
    assert isinstance(build_temporal(_with(), CLASSIFICATION), NoCorrection)
    assert isinstance(build_temporal(_with(temporal=TemporalConfig()), CLASSIFICATION), LastAnswerCorrector)


def test_a_section_for_the_other_task_is_refused() -> None:
    """What is set and would do nothing is an error that names the key."""
    with pytest.raises(ConfigError, match=r"temporal: is for classification, not for detection.*`tracking`"):
        build_temporal(_with(temporal=TemporalConfig()), DETECTION)
    with pytest.raises(ConfigError, match="tracking: is for detection, not for classification"):
        build_temporal(_with(tracking=TrackingConfig(memory_mb=9.0)), CLASSIFICATION)


def test_settings_reach_the_tracker() -> None:
    """Megabytes as bytes, the report threshold, and the classes that the cloud is not shown."""
    config = _with(tracking=TrackingConfig(memory_mb=2.5))
    tracker = build_temporal(config, DETECTION, 0.4, frozenset({3}))
    assert isinstance(tracker, Tracker)
    settings, threshold = tracker.settings
    assert (settings.memory_bytes, settings.hidden, threshold) == (2_500_000, {3}, 0.4)
