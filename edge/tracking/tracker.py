"""The tracker of one camera: pixels and answers in, boxes with tracks out. Thread-safe around a pure step."""

import itertools
import math
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spillover.common.types import Detections, Image, Prediction, SeenBy, TrackMark
from spillover.edge.tracking import boxes as geometry
from spillover.edge.tracking.boxes import XYXY, xyxy_of
from spillover.edge.tracking.flow import Flow, SmallFrame, measure, rounded, small_frame
from spillover.edge.tracking.life import matches, step, tracks_at
from spillover.edge.tracking.presentation import detections_of, shown
from spillover.edge.tracking.ring import Ring
from spillover.edge.tracking.stage import OnReply, Shown, TrackingCounts
from spillover.edge.tracking.steps import TrackStep
from spillover.edge.tracking.values import Answer, Box, Moment, Motion, StepInputs, TrackerState
from spillover.edge.uplink.outcome import CallOutcome, CloudAnswer

MOST_BOXES = 200
"""Boxes of one picture that are tracked; the most confident ones."""
FAINT = 0.4
"""Boxes of the edge below this share of the report threshold are not looked at."""
FARTHEST = 1e5
"""Pixels: no side of a box lies farther from the picture's corner."""
MOST_WAITING = 32
"""Answers that wait for the next frame."""
MOST_HOPS = 8
"""Flow is measured over at most so many pictures to bring an answer to the present, however late it is."""


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """How a camera's objects are tracked."""

    memory_bytes: int = 4 << 20
    """Most bytes of small pictures, from which late answers are brought to the present."""
    hidden: frozenset[int] = frozenset()
    """Classes that are hidden in what is sent: of them the cloud's answers say nothing."""


class Tracker:
    """A `TemporalStage` for detectors: moves boxes with the picture, and corrects them with late answers.

    `correct` and `sent` are called by the camera's thread, in the order of the frames; replies come on any.
    """

    def __init__(self, settings: TrackerSettings, report_threshold: float) -> None:
        self._lock = threading.Lock()
        self._settings = self._wanted = settings, report_threshold
        self._ring = Ring(settings.memory_bytes)
        self._state = TrackerState(report_threshold, settings.hidden)
        self._next_id = 1
        self._waiting: deque[Answer] = deque()
        self._newest: SmallFrame | None = None
        self._newest_sent = False
        self._inputs: StepInputs | None = None
        self._answered_s = self._sent_s = -math.inf
        self._dropped: Counter[str] = Counter()
        self._steps = self._cuts = self._shown = 0

    @property
    def settings(self) -> tuple[TrackerSettings, float]:
        """What it was last asked to work with, and the report threshold."""
        return self._wanted

    def reconfigure(self, settings: TrackerSettings, report_threshold: float) -> None:
        """Go on with other settings from the next frame on; may be called on any thread."""
        self._wanted = settings, report_threshold

    def counts(self) -> TrackingCounts:
        """What it has tracked so far."""
        with self._lock:
            return TrackingCounts(self._shown, self._cuts, self._left_out())

    @property
    def inputs(self) -> StepInputs | None:
        """What the newest frame told; None before the first."""
        return self._inputs

    @property
    def state(self) -> TrackerState:
        """What is known after the newest frame."""
        return self._state

    @property
    def followed(self) -> Detections:
        """The boxes of all living tracks on the newest frame, shown or not, as they lie in the picture."""
        return detections_of(self._state, self._state.tracks)

    @property
    def dropped(self) -> Mapping[str, int]:
        """How much was left out, by reason."""
        with self._lock:
            return self._left_out()

    def _left_out(self) -> dict[str, int]:
        left_out = self._dropped + Counter(too_many_tracks=self._state.refused)
        return dict(left_out)

    def since_last_offload_s(self, captured_s: float) -> float:
        """Age in seconds of the newest frame that was answered or is in flight; infinite without one."""
        with self._lock:
            return captured_s - self._sent_s

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Shown:
        """The tracks on a frame captured at `captured_s`. One no newer than the last is not tracked."""
        detections = prediction.boxes
        if detections is None or not captured_s > self._state.captured_s:
            self._drop("frame_out_of_order" if detections is not None else "no_boxes")
            return Shown(prediction)
        self._follow_settings()
        own = self._boxes(detections)
        now = small_frame(image, captured_s)
        flow = self._flow(now)
        with self._lock:
            arrived, self._waiting = tuple(self._waiting), deque()
        answers = self._brought_here(arrived, now, flow)
        height, width = image.shape[:2]
        with self._lock:
            self._inputs = StepInputs(
                captured_s=captured_s,
                width=width,
                height=height,
                boxes=own,
                cut=flow.cut,
                sent_before=self._newest_sent,
                camera=flow.camera,
                motions=flow.motions,
                answers=answers,
                next_id=self._next_id,
            )
            self._state = state = step(self._state, self._inputs)
            self._next_id = state.next_id
            self._newest, self._newest_sent = now, False
            made = TrackStep(self._steps, self._inputs, state)
            found = shown(state, own)
            self._cuts += state.fresh and self._steps > 0
            self._steps += 1
            self._shown = found.summary.shown
        return replace(found, followed=detections_of(state, state.tracks), step=made)

    def _follow_settings(self) -> None:
        """Take over what `reconfigure` was given."""
        if self._wanted is self._settings:
            return
        self._settings = settings, threshold = self._wanted
        self._ring.resize(settings.memory_bytes)
        with self._lock:
            self._state = replace(self._state, report_threshold=threshold, hidden=settings.hidden)

    def sent(self, frame_id: str, captured_s: float, prediction: Prediction) -> OnReply:
        """Note that the newest frame is sent; the returned function must get its outcome, even a late one."""
        del prediction
        with self._lock:
            self._sent_s = max(self._sent_s, captured_s)
            if captured_s == self._state.captured_s:
                self._newest_sent = True

        def on_reply(outcome: CallOutcome) -> CallOutcome:
            if isinstance(outcome, CloudAnswer) and outcome.prediction.boxes is not None:
                return self._reply(outcome, outcome.prediction.boxes, frame_id, captured_s)
            with self._lock:
                if captured_s == self._sent_s:  # the age counts from the last answered frame again
                    self._sent_s = self._answered_s
            return outcome

        return on_reply

    def _reply(self, outcome: CloudAnswer, said: Detections, frame_id: str, captured_s: float) -> CloudAnswer:
        """The answer with the tracks of its boxes; it waits for the next frame to take effect."""
        hidden = self._settings[0].hidden
        usable = _usable(said)
        seen = [at for at in usable if int(said.class_id[at]) not in hidden]
        left_out, seen = len(seen[MOST_BOXES:]), seen[:MOST_BOXES]
        boxes = tuple(_box(said, index) for index in seen)
        with self._lock:
            self._answered_s = max(self._answered_s, captured_s)
            moment = tracks_at(self._state, captured_s)
            if moment is None:
                self._dropped["answer_too_old"] += 1
                return outcome
            known = matches(moment, boxes)
            numbers = [known[at] if at in known else self._free_id() for at in range(len(boxes))]
            self._dropped["box_unusable"] += len(said) - len(usable)
            self._dropped["too_many_boxes"] += left_out
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self._dropped["answers_waiting"] += 1
            unseen = tuple(track.track_id for track in moment.tracks if track.class_id in hidden)
            self._waiting.append(Answer(captured_s, frame_id, boxes, tuple(numbers), unseen=unseen))
            marks = {
                at: TrackMark(number, SeenBy.CLOUD, 0.0) for at, number in zip(seen, numbers, strict=True)
            }
            own = [at for at in usable if int(said.class_id[at]) in hidden]
            marks |= self._own_marks(moment, said, own)
            every = tuple(
                marks[at] if at in marks else TrackMark(self._free_id(), SeenBy.CLOUD, 0.0)
                for at in range(len(said))
            )
        return replace(outcome, tracks=every)

    def _own_marks(self, moment: Moment, said: Detections, chosen: Sequence[int]) -> dict[int, TrackMark]:
        """Marks of the edge's own boxes in an answer: those of what was hidden."""
        known = matches(moment, tuple(_box(said, at) for at in chosen))
        tracks = {track.track_id: track for track in moment.tracks}
        marks = {}
        for place, at in enumerate(chosen):
            if (track := tracks.get(known.get(place, -1))) is None:
                marks[at] = TrackMark(self._free_id(), SeenBy.EDGE, 0.0)
            else:
                age_s = max(0.0, moment.captured_s - track.seen_s)
                marks[at] = TrackMark(track.track_id, track.confirmed_by, age_s)
        return marks

    def _free_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _drop(self, reason: str, count: int = 1) -> None:
        with self._lock:
            self._dropped[reason] += count

    def _boxes(self, said: Detections) -> tuple[Box, ...]:
        """The edge's boxes that can be tracked, best first; the others are counted."""
        usable = _usable(said)
        if len(usable) < len(said):
            self._drop("box_unusable", len(said) - len(usable))
        least = self._settings[1] * FAINT
        near = [at for at in usable if said.confidence[at] >= least]
        if len(near) > MOST_BOXES:
            self._drop("too_many_boxes", len(near) - MOST_BOXES)
        return tuple(_box(said, at) for at in near[:MOST_BOXES])

    def _flow(self, now: SmallFrame) -> Flow:
        """Flow from the frame before, which moves into the ring."""
        before = self._newest
        boxes = [track.xyxy for track in self._state.tracks]
        if before is None:
            return measure(now, now, boxes)
        flow = measure(before, now, boxes)
        if flow.cut:
            self._ring.clear()
        else:
            self._ring.add(before, sent=self._newest_sent)
        return flow

    def _brought_here(self, arrived: Sequence[Answer], now: SmallFrame, flow: Flow) -> tuple[Answer, ...]:
        """The answers, with the motion of each new box from its frame to this one."""
        living = set() if flow.cut else {track.track_id for track in self._state.tracks}
        hops = max(1, 2 * MOST_HOPS // max(1, len(arrived)))
        return tuple(self._moved_answer(answer, living, now, min(hops, MOST_HOPS)) for answer in arrived)

    def _moved_answer(self, answer: Answer, living: set[int], now: SmallFrame, hops: int) -> Answer:
        """New boxes follow the flow over kept pictures; those of living tracks move with the track."""
        new = [at for at, number in enumerate(answer.track_ids) if number not in living]
        motions: list[Motion | None] = [None] * len(answer.boxes)
        path = self._ring.path(answer.captured_s, hops) if new else []
        if new and not path:
            self._drop("box_without_picture", len(new))
        if path:
            then = [xyxy_of(answer.boxes[at]) for at in new]
            for at, before, after in zip(new, then, followed([*path, now], then), strict=True):
                motions[at] = rounded(geometry.between(before, after))
        return replace(answer, moved=tuple(motions))


def followed(path: Sequence[SmallFrame], boxes: Sequence[XYXY]) -> list[XYXY]:
    """Where the boxes of the first picture are in the last one."""
    present = list(boxes)
    for before, after in itertools.pairwise(path):
        motions = measure(before, after, present).motions
        present = [geometry.moved(box, motion) for box, motion in zip(present, motions, strict=True)]
    return present


def _usable(said: Detections) -> list[int]:
    """Indices of boxes with sides that can be and some area."""
    near = (np.abs(said.xyxy) < FARTHEST).all(axis=1)  # false also for what is no number
    area = (said.xyxy[:, 2:] > said.xyxy[:, :2]).all(axis=1)
    good = near & area & np.isfinite(said.confidence)
    indices: list[int] = np.flatnonzero(good).tolist()
    return indices


def _box(said: Detections, index: int) -> Box:
    left, top, right, bottom = said.xyxy[index].tolist()
    return Box(left, top, right, bottom, float(said.confidence[index]), int(said.class_id[index]))
