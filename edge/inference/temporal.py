"""Temporal correction: the cloud's answer to an earlier frame corrects the edge's answer to this one.

A camera shows nearly the same scene for a while, so an answer of the cloud is worth something for the frames
that follow. With C the cloud's answer to an earlier frame, E' the edge's to that same frame and E the edge's
now, what is shown is

    log p = log C + w (log E - log E') + constant

The cloud says what the scene is; the edge says only what has changed since, as its own habits stand in both
E and E' and cancel. The weight w is small, as the edge's differences are mostly noise.

To reuse a server's answer on the device until the next comes is the idea of Glimpse (Chen et al., SenSys
2015) and of FoggyCache (Guo et al., MobiCom 2018); to move a large model's log-probabilities by the
difference of a small one's is that of proxy-tuning (Liu et al., COLM 2024).
"""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from spillover.common.errors import ConfigError
from spillover.common.tasks.base import TaskSpec
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.types import Classification, Image, Prediction
from spillover.edge.config import TemporalConfig
from spillover.edge.inference.scene import Thumbnail, changed_share, thumbnail
from spillover.edge.uplink.outcome import CallOutcome, CloudAnswer

LEAST = 1e-7
"""Probabilities below count as this: a class that one side rules out must not rule out everything."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CloudReference:
    """A frame that the cloud has answered, and what the edge said of it."""

    frame_id: str
    captured_s: float
    """Monotonic."""
    edge: Classification
    cloud: Classification
    scene: int = 0
    """Number of the scene, counted by the cuts before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """What a frame's local result shows; `carried_from` is the frame whose answer corrected it, or empty."""

    prediction: Prediction
    carried_from: str = ""


OnReply = Callable[[CallOutcome], None]
"""Gets the outcome of one frame's call, once, on any thread."""


class TemporalCorrector(Protocol):
    """Corrects the edge's answers by the cloud's newest one."""

    def since_last_offload_s(self, captured_s: float) -> float:
        """Age of the newest frame whose answer is here or under way; infinite without one."""
        ...

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Corrected:
        """What to show of a frame captured at `captured_s` (monotonic); call it for every frame."""
        ...

    def sent(self, frame_id: str, captured_s: float, prediction: Prediction) -> OnReply:
        """Note that a frame goes to the cloud; its reply, late ones too, goes to the returned function."""
        ...


class NoCorrection:
    """Shows the edge's own answers."""

    def since_last_offload_s(self, captured_s: float) -> float:
        """No answer is kept."""
        del captured_s
        return math.inf

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Corrected:
        """The prediction as it is."""
        del image, captured_s
        return Corrected(prediction)

    def sent(self, frame_id: str, captured_s: float, prediction: Prediction) -> OnReply:
        """Replies change nothing."""
        del frame_id, captured_s, prediction
        return _ignore


def _ignore(outcome: CallOutcome) -> None:
    del outcome


class LastAnswerCorrector:
    """Corrects by the newest answer, as `TemporalConfig` says. Thread-safe; for classifiers."""

    def __init__(self, config: TemporalConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._newest: CloudReference | None = None
        self._sent_s = -math.inf
        self._seen: Thumbnail | None = None
        self._scene = 0

    def since_last_offload_s(self, captured_s: float) -> float:
        """Age of the newest frame whose answer is here or under way; infinite without one."""
        with self._lock:
            return captured_s - self._sent_s

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Corrected:
        """Correct the prediction where the newest answer is fresh and of the same scene."""
        seen = thumbnail(image)
        with self._lock:
            self._scene += changed_share(self._seen, seen) > self._config.max_change
            self._seen = seen
            newest, scene = self._newest, self._scene
        if newest is None or newest.scene != scene:
            return Corrected(prediction)
        if captured_s - newest.captured_s > self._config.max_age_s:
            return Corrected(prediction)
        own = CLASSIFICATION.own(prediction)
        if similarity(own, newest.edge) < self._config.min_similarity:
            return Corrected(prediction)
        shown = carried(own, newest.edge, newest.cloud, self._config.weight)
        return Corrected(shown, newest.frame_id)

    def sent(self, frame_id: str, captured_s: float, prediction: Prediction) -> OnReply:
        """Note that a frame goes to the cloud; its reply, late ones too, goes to the returned function."""
        own = CLASSIFICATION.own(prediction)
        with self._lock:
            self._sent_s = max(self._sent_s, captured_s)
            scene = self._scene

        def on_reply(outcome: CallOutcome) -> None:
            if isinstance(outcome, CloudAnswer) and isinstance(outcome.prediction, type(own)):
                self._answered(CloudReference(frame_id, captured_s, own, outcome.prediction, scene))
            else:
                self._failed(captured_s)

        return on_reply

    def _answered(self, answer: CloudReference) -> None:
        """Keep an answer, unless it is to an older frame than the newest one kept."""
        with self._lock:
            if self._newest is None or answer.captured_s >= self._newest.captured_s:
                self._newest = answer

    def _failed(self, captured_s: float) -> None:
        """Where the newest frame sent gets no answer, ages count from the last answered one again."""
        with self._lock:
            if captured_s == self._sent_s:
                self._sent_s = self._newest.captured_s if self._newest else -math.inf


_CORRECTORS: Mapping[str, Callable[[TemporalConfig], TemporalCorrector]] = MappingProxyType(
    {CLASSIFICATION.name: LastAnswerCorrector}
)
"""By task. An earlier frame's boxes are where things were then, so there is none for detection."""


def build_temporal(config: TemporalConfig | None, task: TaskSpec[Any]) -> TemporalCorrector:
    """The corrector that `edge.yaml` asks for.

    Raises:
        ConfigError: there is none for models of this task.
    """
    if config is None:
        return NoCorrection()
    if task.name not in _CORRECTORS:
        raise ConfigError(f"temporal: is for {' and '.join(_CORRECTORS)}, not for {task.name}")
    return _CORRECTORS[task.name](config)


def similarity(now: Classification, then: Classification) -> float:
    """Bhattacharyya's coefficient of two answers of the edge, 0..1: 1 says that they are the same."""
    count = _class_count(now, then)
    return float(min(1.0, np.sqrt(_dense(now, count) * _dense(then, count)).sum()))


def carried(
    now: Classification, then: Classification, cloud: Classification, weight: float
) -> Classification:
    """The cloud's answer to an earlier frame, moved by what the edge has seen change since.

    `now` and `then` are the edge's answers to this frame and to that one. Classes that the cloud's list
    leaves out share what its probabilities leave of 1. Gives every class, by descending probability.
    """
    count = _class_count(now, then, cloud)
    log_p = np.log(_dense(cloud, count)) + weight * (np.log(_dense(now, count)) - np.log(_dense(then, count)))
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable").astype(np.int32)
    return Classification(order, p[order].astype(np.float32))


def _class_count(*answers: Classification) -> int:
    return max(int(answer.class_id.max(initial=0)) for answer in answers) + 1


def _dense(answer: Classification, count: int) -> Floats:
    """Probabilities by class (count,), at least `LEAST`.

    Classes that are not listed share the rest evenly, but none has more than the least that is listed.
    """
    unlisted = count - answer.class_id.size
    rest = max(0.0, 1.0 - float(answer.probability.sum())) / unlisted if unlisted else 0.0
    rest = min(rest, float(answer.probability.min(initial=1.0)))
    dense = np.full(count, rest)
    dense[answer.class_id] = answer.probability
    floored: Floats = np.maximum(dense, LEAST)
    return floored
