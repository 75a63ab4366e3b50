"""Plays a clip on its own clock: edge, stage, sender and answers that come late, frame by frame.

All runs go through the clip side by side, so that each frame is decoded once.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections, Image, ModelId, TrackMark
from spillover.edge.tracking.stage import OnReply, Shown, TemporalStage
from spillover.edge.uplink.outcome import CloudAnswer
from spillover.lab.pairs.video.answers import Answers
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.pairs.video.sending import Moment, Sender
from spillover.lab.terminal import Progress


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds from a frame's capture; nothing else takes time on the clip's clock."""

    late_s: float
    """To the cloud's answer."""
    edge_s: float = 0.03
    """To the edge's own result."""
    deadline_s: float = 0.5
    """To the first result of a frame that was sent, at the latest."""

    @property
    def answered_s(self) -> float:
        """To the result that is the cloud's answer: the edge calls only when it has a result of its own."""
        return max(self.late_s, self.edge_s)


@dataclass(frozen=True, slots=True)
class Reporting:
    """Which boxes are shown, by their confidence; tracks are chosen by their stage."""

    edge_from: float
    cloud_from: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What was said of one frame, and when."""

    number: int
    """Of the frame."""
    given_s: float
    boxes: Detections
    tracks: tuple[TrackMark, ...] | None = None


@dataclass(slots=True, eq=False)
class Played:
    """What one run made of the clip."""

    shown: list[Output] = field(default_factory=list)
    """What was known of each frame at its own instant: the local result, or an answer that took no time."""
    outputs: list[Output] = field(default_factory=list)
    """All results as they were given: first results, and revisions."""
    sent: list[int] = field(default_factory=list)
    """Numbers of the frames that were sent."""


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Both models' answers to the clip; the cloud's are those to the pictures that are sent."""

    edge: Answers
    cloud: Answers
    cloud_model: ModelId


class Player:
    """One run: a stage and a sender over the answers of both sides."""

    def __init__(
        self, sides: Sides, stage: TemporalStage, sender: Sender, delays: Delays, reporting: Reporting
    ) -> None:
        self.played = Played()
        self._sides = sides
        self._stage = stage
        self._sender = sender
        self._delays = delays
        self._reporting = reporting
        self._coming: list[tuple[float, int, float, OnReply]] = []

    def see(self, number: int, captured_s: float, image: Image) -> None:
        """Take the next frame, after the answers that have come by then."""
        while self._coming and self._coming[0][0] <= captured_s:
            _, answered, taken_s, on_reply = heapq.heappop(self._coming)
            self.played.outputs.append(self._answer(answered, taken_s, on_reply))
        prediction = self._sides.edge.boxes[number]
        shown = self._stage.correct(prediction, image, captured_s)
        since_s = self._stage.since_last_offload_s(captured_s)
        local = self._local(number, captured_s, shown)
        if self._sender.wants(Moment(number, captured_s, shown.summary, since_s)):
            self._send(captured_s, prediction, local)
        else:
            self._show(local)

    def _local(self, number: int, captured_s: float, shown: Shown) -> Output:
        boxes = DETECTION.own(shown.prediction)
        if shown.tracks is None:
            boxes = boxes.above(self._reporting.edge_from)
        return Output(number, captured_s + self._delays.edge_s, boxes, shown.tracks)

    def _send(self, captured_s: float, prediction: Detections, local: Output) -> None:
        """A frame that was sent is answered by the cloud, or at its deadline by the edge."""
        delays, number = self._delays, local.number
        self.played.sent.append(number)
        on_reply = self._stage.sent(str(number), captured_s, prediction)
        if delays.late_s <= 0:
            self._show(self._answer(number, captured_s, on_reply))
            return
        self.played.shown.append(local)
        if delays.late_s > delays.deadline_s:
            at_deadline = Output(number, captured_s + delays.deadline_s, local.boxes, local.tracks)
            self.played.outputs.append(at_deadline)
        heapq.heappush(self._coming, (captured_s + delays.late_s, number, captured_s, on_reply))

    def _answer(self, number: int, captured_s: float, on_reply: OnReply) -> Output:
        """The cloud's answer to a frame, as the stage gives it back."""
        delays = self._delays
        boxes = self._sides.cloud.boxes[number].above(self._reporting.cloud_from)
        network_s = max(0.0, delays.late_s)
        outcome = on_reply(CloudAnswer(boxes, self._sides.cloud_model, network_s, 0.0, 0.0, 0.0))
        if not isinstance(outcome, CloudAnswer):
            raise TypeError(f"a stage made {type(outcome).__name__} of an answer")
        shown = DETECTION.own(outcome.prediction)
        return Output(number, captured_s + delays.answered_s, shown, outcome.tracks)

    def _show(self, output: Output) -> None:
        self.played.shown.append(output)
        self.played.outputs.append(output)


def play(clip: Clip, players: Sequence[Player], progress: Progress) -> None:
    """Show every frame to every player, in order. Raises SourceError."""
    for number, image in zip(progress.track(range(len(clip)), "playing"), clip.frames(), strict=True):
        for player in players:
            player.see(number, float(clip.times_s[number]), image)


def play_cloud_only(clip: Clip, cloud: Answers, delays: Delays, reporting: Reporting) -> Played:
    """What the cloud alone gives: every frame is sent, and nothing is shown of it but the answer."""
    outputs = [
        Output(number, float(at_s) + delays.answered_s, boxes.above(reporting.cloud_from))
        for number, (at_s, boxes) in enumerate(zip(clip.times_s, cloud.boxes, strict=True))
    ]
    return Played(outputs, outputs, list(range(len(clip))))
