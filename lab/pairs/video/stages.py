"""The ways to use the cloud's answers between two frames that are sent, as temporal stages."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from spillover.common.types import Image, Prediction
from spillover.edge.tracking.stage import OnReply, Shown, TemporalStage
from spillover.edge.tracking.tracker import Tracker, TrackerSettings
from spillover.edge.uplink.outcome import CallOutcome, CloudAnswer


class Held:
    """Shows the newest answer of the cloud where its boxes were; the edge's own boxes before the first.

    The plainest temporal stage there is, to compare with. Takes frames and replies from one thread.
    """

    def __init__(self) -> None:
        self._newest: tuple[float, str, Prediction] | None = None
        self._sent_s = float("-inf")

    def since_last_offload_s(self, captured_s: float) -> float:
        """Age in seconds of the newest frame that was sent; infinite without one."""
        return captured_s - self._sent_s

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Shown:
        """The newest answer in place of the edge's."""
        del image, captured_s
        if self._newest is None:
            return Shown(prediction)
        _, frame_id, answer = self._newest
        return Shown(answer, frame_id)

    def sent(self, frame_id: str, captured_s: float, prediction: Prediction) -> OnReply:
        """Keep the answer, unless that of a newer frame is there already."""
        del prediction
        self._sent_s = captured_s

        def on_reply(outcome: CallOutcome) -> CallOutcome:
            newer = self._newest is None or captured_s >= self._newest[0]
            if isinstance(outcome, CloudAnswer) and newer:
                self._newest = captured_s, frame_id, outcome.prediction
            return outcome

        return on_reply

    def counts(self) -> None:
        """Nothing is tracked."""


def _held(report_threshold: float) -> TemporalStage:
    del report_threshold
    return Held()


def _carried(report_threshold: float) -> TemporalStage:
    """The daemon's own tracker."""
    return Tracker(TrackerSettings(), report_threshold)


STAGES: Mapping[str, Callable[[float], TemporalStage]] = MappingProxyType(
    {"held": _held, "carried": _carried}
)
"""By the name of the way; each takes the confidence from which the edge's boxes are shown."""
