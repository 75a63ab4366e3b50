"""The tracker under anything that cameras, models and links do: bounded, right in form, made again alike."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spillover.common.types import Detections, ModelId
from spillover.edge.tracking.life import MOST_PAST, MOST_TRACKS, step
from spillover.edge.tracking.presentation import shown
from spillover.edge.tracking.stage import OnReply, Shown
from spillover.edge.tracking.steps import digest_of
from spillover.edge.tracking.tracker import MOST_WAITING, Tracker, TrackerSettings
from spillover.edge.tracking.values import StepInputs, TrackerState
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, CloudAnswer
from tests.support.moving import Walker, World

THRESHOLD = 0.3
MEMORY_BYTES = 40_000
SCENES = (
    World((Walker(40, 60, dx=3), Walker(220, 120, dx=-2, class_id=2))),
    World((Walker(100, 20, dy=4),), camera=(2.0, 0.0), seed=7),
)
SIZES = ((96, 128), (48, 64), (1, 1), (40, 300))
PICTURES = [
    [np.ascontiguousarray(scene.picture(frame)[:height, :width]) for frame in range(6)]
    for scene in SCENES
    for height, width in SIZES
]
SIDES = st.floats(-50, 400, width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 3e38])


@st.composite
def predictions(draw: st.DrawFn) -> Detections:
    """Boxes as models give them, broken ones too; at times hundreds."""
    count = draw(st.integers(0, 5) | st.sampled_from([500]))
    if count > 5:
        xy = np.random.default_rng(draw(st.integers(0, 99))).uniform(0, 300, (count, 2))
        xyxy = np.concatenate([xy, xy + 12], axis=1)
    else:
        xyxy = np.array([[draw(SIDES) for _ in range(4)] for _ in range(count)])
        plain = draw(st.lists(st.booleans(), min_size=count, max_size=count))
        for at in np.flatnonzero(plain):
            xyxy[at] = [10 + 30 * at, 10, 30 + 30 * at, 50]
    confidence = np.sort(np.array([draw(st.floats(0, 1, width=32)) for _ in range(min(count, 5))]))[::-1]
    confidence = np.concatenate([confidence, np.full(count - len(confidence), 0.35)])
    class_id = np.arange(count) % draw(st.integers(1, 3))
    return Detections(
        xyxy.reshape(-1, 4).astype(np.float32), confidence.astype(np.float32), class_id.astype(np.int32)
    )


class Anything(RuleBasedStateMachine):
    """Frames, sendings and replies in any order."""

    @initialize()
    def begin(self) -> None:
        """A tracker without a frame."""
        self.tracker = Tracker(TrackerSettings(MEMORY_BYTES), THRESHOLD)
        self.now_s = 0.0
        self.replies: list[OnReply] = []
        self.logged: list[tuple[bytes, int]] = []
        self.ended: set[int] = set()
        self.last: Shown | None = None
        self.own: Detections | None = None

    @rule(
        own=predictions(),
        clip=st.integers(0, len(PICTURES) - 1),
        at=st.integers(0, 5),
        gap_s=st.sampled_from([0.01, 0.033, 0.1, 1.0, 60.0]),
    )
    def frame(self, own: Detections, clip: int, at: int, gap_s: float) -> None:
        """A frame, perhaps of another size or scene."""
        self.now_s += gap_s
        self.own = own
        self.last = self.tracker.correct(own, PICTURES[clip][at], self.now_s)
        assert self.tracker.inputs is not None
        self.logged.append((msgspec.json.encode(self.tracker.inputs), digest_of(self.tracker.state)))
        self.check_shown(self.last)

    @rule(own=predictions(), back_s=st.sampled_from([0.0, 0.1, 100.0]))
    def old_frame(self, own: Detections, back_s: float) -> None:
        """A frame that is not newer than the newest one."""
        if self.last is None:
            return
        state = self.tracker.state
        shown = self.tracker.correct(own, PICTURES[0][0], self.now_s - back_s)
        assert shown.prediction is own
        assert self.tracker.state is state

    @rule()
    def send(self) -> None:
        """The newest frame leaves."""
        if self.last is not None:
            self.replies.append(self.tracker.sent(f"at {self.now_s}", self.now_s, Detections(*_nothing())))

    @rule(said=predictions(), pick=st.integers(0, 1000), fails=st.booleans())
    def reply(self, said: Detections, pick: int, fails: bool) -> None:
        """Some call ends, in any order; others never do."""
        if not self.replies:
            return
        on_reply = self.replies.pop(pick % len(self.replies))
        outcome: CallOutcome = (
            CallFailure(CallStatus.DEADLINE_EXCEEDED)
            if fails
            else CloudAnswer(said, ModelId("big", "1"), 0.0, 0.0, 0.0, 0.0)
        )
        back = on_reply(outcome)
        if isinstance(back, CloudAnswer) and back.tracks is not None:
            assert len(back.tracks) == len(said)
            numbers = [mark.track_id for mark in back.tracks]
            assert len(set(numbers)) == len(numbers)

    def check_shown(self, shown: Shown) -> None:
        """What is shown has the right form."""
        boxes, state = shown.prediction.boxes, self.tracker.state
        assert boxes is not None
        assert shown.tracks is not None
        numbers = [mark.track_id for mark in shown.tracks]
        assert len(numbers) == len(boxes) == len(set(numbers))
        assert np.isfinite(boxes.xyxy).all()
        assert (boxes.xyxy >= 0).all()
        assert (boxes.xyxy <= [state.width, state.height] * 2).all()
        assert (boxes.confidence >= np.float32(THRESHOLD)).all()
        assert (np.diff(boxes.confidence) <= 0).all()
        assert all(mark.age_s >= 0 for mark in shown.tracks)
        assert all(math.isfinite(value) for value in (shown.summary.stale, shown.summary.doubtful))
        assert shown.summary.half_life_s > 0
        assert not self.ended & set(numbers), "a track that has ended is back"
        self.ended |= set(shown.ended)

    @invariant()
    def bounded(self) -> None:
        """Memory has limits, and numbers of tracks are given once."""
        if not hasattr(self, "tracker"):
            return
        state = self.tracker.state
        assert len(state.tracks) <= MOST_TRACKS
        assert len(state.past) <= MOST_PAST
        assert self.tracker._ring.size_bytes <= MEMORY_BYTES
        assert len(self.tracker._waiting) <= MOST_WAITING
        numbers = [track.track_id for track in state.tracks]
        assert numbers == sorted(set(numbers))
        assert all(number < state.next_id for number in numbers)

    def teardown(self) -> None:
        """The log, read back from its text, gives the same tracks bit by bit."""
        state = TrackerState(THRESHOLD)
        for text, digest in getattr(self, "logged", ()):
            inputs = msgspec.json.decode(text, type=StepInputs)
            state = step(state, inputs)
            shown(state, inputs.boxes)
            assert digest_of(state) == digest


def _nothing() -> Sequence[np.ndarray]:
    return np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32)


TestAnything = Anything.TestCase
TestAnything.settings = settings(
    max_examples=20,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
