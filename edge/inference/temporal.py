"""Temporal correction: the cloud's answer to an earlier frame corrects the edge's answer to this one.

A camera shows nearly the same scene for a while, so a cloud answer also helps with the frames that follow.
With C the cloud's answer to an earlier frame, E' the edge's answer to that same frame and E the edge's answer
now, the result is

    log p = log C + w (log E - log E') + constant

The cloud's answer describes the scene. The edge only contributes the change since then: its systematic errors
are in both E and E' and cancel. The weight w is small, because the edge's differences are mostly noise.

Glimpse (Chen et al., SenSys 2015) and FoggyCache (Guo et al., MobiCom 2018) reuse a server's answer on the
device until the next one arrives. Proxy-tuning (Liu et al., COLM 2024) shifts a large model's
log-probabilities by the difference of a small one's.
"""

import math
import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.types import Classification, Image, Prediction
from spillover.edge.camera.change import Thumbnail, changed_share
from spillover.edge.config import TemporalConfig
from spillover.edge.inference.scene import thumbnail
from spillover.edge.tracking.stage import OnReply, Shown
from spillover.edge.uplink.outcome import CallOutcome, CloudAnswer

LEAST = 1e-7
"""Smaller probabilities are raised to this: a class that one side rules out must not rule out everything."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class CloudReference:
    """A frame that the cloud has answered, with the edge's own answer to it."""

    frame_id: str
    captured_s: float
    """Time of capture, in monotonic seconds."""
    edge: Classification
    cloud: Classification
    scene: int = 0
    """Number of the scene, counted by scene changes."""


class LastAnswerCorrector:
    """Corrects with the newest cloud answer, as `TemporalConfig` says. Thread-safe; for classifiers."""

    def __init__(self, config: TemporalConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._newest: CloudReference | None = None
        self._sent_s = -math.inf
        self._seen: Thumbnail | None = None
        self._scene = 0

    def since_last_offload_s(self, captured_s: float) -> float:
        """Age in seconds of the newest frame that was answered or is in flight; infinite without one."""
        with self._lock:
            return captured_s - self._sent_s

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Shown:
        """Correct the prediction if the newest answer is fresh and of the same scene."""
        seen = thumbnail(image)
        with self._lock:
            self._scene += changed_share(self._seen, seen) > self._config.max_change
            self._seen = seen
            newest, scene = self._newest, self._scene
        if newest is None or newest.scene != scene:
            return Shown(prediction)
        if captured_s - newest.captured_s > self._config.max_age_s:
            return Shown(prediction)
        edge = CLASSIFICATION.own(prediction)
        if similarity(edge, newest.edge) < self._config.min_similarity:
            return Shown(prediction)
        shown = carried(edge, newest.edge, newest.cloud, self._config.weight)
        return Shown(shown, newest.frame_id)

    def sent(self, frame_id: str, captured_s: float, prediction: Prediction) -> OnReply:
        """Note that a frame is sent; the returned function must receive its outcome, even a late one."""
        edge = CLASSIFICATION.own(prediction)
        with self._lock:
            self._sent_s = max(self._sent_s, captured_s)
            scene = self._scene

        def on_reply(outcome: CallOutcome) -> CallOutcome:
            if isinstance(outcome, CloudAnswer) and isinstance(outcome.prediction, type(edge)):
                self._answered(CloudReference(frame_id, captured_s, edge, outcome.prediction, scene))
            else:
                self._failed(captured_s)
            return outcome

        return on_reply

    def counts(self) -> None:
        """Classes have no tracks."""

    def _answered(self, answer: CloudReference) -> None:
        """Keep an answer unless a newer frame's answer is already kept."""
        with self._lock:
            if self._newest is None or answer.captured_s >= self._newest.captured_s:
                self._newest = answer

    def _failed(self, captured_s: float) -> None:
        """If the newest sent frame gets no answer, the age counts from the last answered frame again."""
        with self._lock:
            if captured_s == self._sent_s:
                self._sent_s = self._newest.captured_s if self._newest else -math.inf


def similarity(now: Classification, then: Classification) -> float:
    """Bhattacharyya coefficient of two answers of the edge, 0..1; 1 means that they are equal."""
    count = _class_count(now, then)
    return float(min(1.0, np.sqrt(_dense(now, count) * _dense(then, count)).sum()))


def carried(
    now: Classification, then: Classification, cloud: Classification, weight: float
) -> Classification:
    """The cloud's answer to an earlier frame, shifted by the change that the edge has seen since.

    `now` and `then` are the edge's answers to this frame and to that one. Classes missing from the cloud's
    list share its remaining probability. Returns every class, by descending probability.
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

    Unlisted classes share the remaining probability evenly, each at most the smallest listed probability.
    """
    unlisted = count - answer.class_id.size
    rest = max(0.0, 1.0 - float(answer.probability.sum())) / unlisted if unlisted else 0.0
    rest = min(rest, float(answer.probability.min(initial=1.0)))
    dense = np.full(count, rest)
    dense[answer.class_id] = answer.probability
    floored: Floats = np.maximum(dense, LEAST)
    return floored
