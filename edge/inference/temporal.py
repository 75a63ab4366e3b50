"""Carried answers: what the cloud said of an earlier frame still corrects the edge's answer to this one.

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
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from spillover.common.errors import ConfigError
from spillover.common.model.manifest import Task
from spillover.common.types import Classification, Image, Prediction
from spillover.edge.config import TemporalConfig
from spillover.edge.inference.scene import Thumbnail, changed_share, thumbnail
from spillover.edge.uplink.outcome import CallOutcome, CloudAnswer, ReplyHandler

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


class TemporalCorrector(Protocol):
    """Keeps the cloud's last answer and corrects the edge's by it."""

    def since_last_offload_s(self, captured_s: float) -> float:
        """Age of the newest frame whose answer is here or under way; infinite without one."""
        ...

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Corrected:
        """What to show of a frame captured at `captured_s` (monotonic); it must be told of every frame."""
        ...

    def watch(
        self, handler: ReplyHandler, frame_id: str, captured_s: float, prediction: Prediction
    ) -> ReplyHandler:
        """The ticket of a frame that is about to be sent, so that its answer is heard, late ones too."""
        ...


class NoCorrection:
    """Shows the edge's own answers."""

    def since_last_offload_s(self, captured_s: float) -> float:
        """Nothing is kept."""
        del captured_s
        return math.inf

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Corrected:
        """As it is."""
        del image, captured_s
        return Corrected(prediction)

    def watch(
        self, handler: ReplyHandler, frame_id: str, captured_s: float, prediction: Prediction
    ) -> ReplyHandler:
        """As it is."""
        del frame_id, captured_s, prediction
        return handler


class LastAnswerCorrector:
    """Carries the newest answer that was heard, as `TemporalConfig` says. Thread-safe; for classifiers."""

    def __init__(self, config: TemporalConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._heard: CloudReference | None = None
        self._asked_s = -math.inf
        self._seen: Thumbnail | None = None
        self._scene = 0

    def since_last_offload_s(self, captured_s: float) -> float:
        """Age of the newest frame whose answer is here or under way; infinite without one."""
        with self._lock:
            return captured_s - self._asked_s

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Corrected:
        """Correct an answer where one that was heard is fresh and of the same scene."""
        seen = thumbnail(image)
        with self._lock:
            self._scene += changed_share(self._seen, seen) > self._config.max_change
            self._seen = seen
            heard, scene = self._heard, self._scene
        if heard is None or heard.scene != scene or not isinstance(prediction, Classification):
            return Corrected(prediction)
        if captured_s - heard.captured_s > self._config.max_age_s:
            return Corrected(prediction)
        if similarity(prediction, heard.edge) < self._config.min_similarity:
            return Corrected(prediction)
        return Corrected(carried(prediction, heard.edge, heard.cloud, self._config.weight), heard.frame_id)

    def watch(
        self, handler: ReplyHandler, frame_id: str, captured_s: float, prediction: Prediction
    ) -> ReplyHandler:
        """Note that the cloud is asked, and hear what comes of it."""
        if not isinstance(prediction, Classification):
            return handler
        with self._lock:
            self._asked_s = max(self._asked_s, captured_s)
            scene = self._scene
        return _ListeningHandler(self, handler, frame_id, captured_s, prediction, scene)

    def heard(self, answer: CloudReference) -> None:
        """Take an answer; one to an older frame than the newest known changes nothing."""
        with self._lock:
            if self._heard is None or answer.captured_s >= self._heard.captured_s:
                self._heard = answer

    def failed(self, captured_s: float) -> None:
        """The newest frame asked about gets no answer: what is known is as old as the last that was heard."""
        with self._lock:
            if captured_s == self._asked_s:
                self._asked_s = self._heard.captured_s if self._heard else -math.inf


@dataclass(frozen=True, slots=True, eq=False)
class _ListeningHandler:
    """A ticket that tells the carrier before it tells the one it stands for."""

    temporal: LastAnswerCorrector
    handler: ReplyHandler
    frame_id: str
    captured_s: float
    own: Classification
    scene: int

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Pass it on."""
        self.handler.encoded(payload_bytes, encode_s)

    def fall_back(self, option: str, reason: str) -> None:
        """Pass it on."""
        self.handler.fall_back(option, reason)

    def complete(self, outcome: CallOutcome) -> None:
        """Hear an answer of the same kind, and pass it on."""
        if isinstance(outcome, CloudAnswer) and isinstance(outcome.prediction, Classification):
            self.temporal.heard(
                CloudReference(self.frame_id, self.captured_s, self.own, outcome.prediction, self.scene)
            )
        else:
            self.temporal.failed(self.captured_s)
        self.handler.complete(outcome)


def build_temporal(config: TemporalConfig | None, task: Task) -> TemporalCorrector:
    """The carrier that `edge.yaml` asks for.

    Raises:
        ConfigError: the model is a detector.
    """
    if config is None:
        return NoCorrection()
    if task is not Task.CLASSIFICATION:
        raise ConfigError("temporal: is for classifiers; an earlier frame's boxes are where things were then")
    return LastAnswerCorrector(config)


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
