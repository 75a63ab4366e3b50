"""The pipeline: which door a frame takes, and who gets the reply to one that was sent."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from spillover.common.model.pictures import StepTimings
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import (
    Action,
    AnsweredBy,
    Detections,
    Frame,
    Image,
    ModelId,
    Prediction,
    Result,
    SeenBy,
    TrackMark,
)
from spillover.edge.config import Mode, RedactionConfig, RedactionStyle, TemporalConfig
from spillover.edge.device import Device, Offload, Reporting
from spillover.edge.events.reporter import ObjectEvents
from spillover.edge.events.values import Rules
from spillover.edge.inference.predictor import GuardedPredictor, Predictor
from spillover.edge.inference.reported import ReportFilter
from spillover.edge.inference.temporal import LastAnswerCorrector
from spillover.edge.link.estimator import LinkEstimate
from spillover.edge.link.state import BreakerPhase, LinkState, LinkView, PayloadOption
from spillover.edge.payload.masks import build_masks
from spillover.edge.payload.redaction import build_redaction
from spillover.edge.pipeline import CameraSettings, Pipeline, Replies
from spillover.edge.policy.auditor import Auditor
from spillover.edge.results.deadlines import EXPECTED_LATE, DeadlineTable
from spillover.edge.sinks.outlets import Outlets
from spillover.edge.telemetry.frame_events import FrameEvents
from spillover.edge.telemetry.metrics import Metrics
from spillover.edge.tracking.stage import NoCorrection, OnReply, Shown, TrackSummary
from spillover.edge.uplink.base import NoUplink
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, CloudAnswer, ReplyHandler
from tests.support.edge_values import classification, frame, result
from tests.support.policies import policy_of

SAYS_SECOND = CloudAnswer(classification(0.1, 0.9), ModelId("big", "1"), 0.0, 0.0, 0.0, 0.0)


class Unsure:
    """A model that gives both classes the same probability."""

    model_id = ModelId("small", "1")

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """The same for every picture."""
        del image
        return classification(0.5, 0.5), StepTimings(0.0, 0.0, 0.0)


@dataclass
class Watchful:
    """A detector that keeps what it was shown, and always sees a person (0), a dog (1) and a faint dog."""

    model_id = ModelId("small", "1")
    shown: list[Image] = field(default_factory=list)

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """The same boxes for every picture."""
        self.shown.append(image)
        xyxy = np.array([[2, 4, 10, 20], [40, 20, 60, 44], [20, 20, 30, 30]], np.float32)
        boxes = Detections(xyxy, np.array([0.9, 0.8, 0.4], np.float32), np.array([0, 1, 1], np.int32))
        return boxes, StepTimings(0.0, 0.0, 0.0)


@dataclass
class Numbered(NoCorrection):
    """Gives each box its place as its track."""

    corrected: list[Prediction] = field(default_factory=list)

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Shown:
        """The boxes of 0.5 and above."""
        del image, captured_s
        self.corrected.append(prediction)
        boxes = DETECTION.own(prediction).above(0.5)
        return Shown(boxes, tracks=tuple(TrackMark(n, SeenBy.EDGE, 0.0) for n in range(1, len(boxes) + 1)))

    def sent(self, frame_id: str, captured_s: float, prediction: Prediction) -> OnReply:
        """Marks the boxes of the answer likewise."""
        del frame_id, captured_s, prediction

        def mark(outcome: CallOutcome) -> CallOutcome:
            assert isinstance(outcome, CloudAnswer)
            many = len(DETECTION.own(outcome.prediction))
            return replace(outcome, tracks=tuple(TrackMark(n, SeenBy.CLOUD, 0.0) for n in range(1, many + 1)))

        return mark


@dataclass
class HeldUplink(NoUplink):
    """An uplink whose calls end when a test says so."""

    state: LinkState
    handlers: list[ReplyHandler] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    useful_for_s: list[float] = field(default_factory=list)
    """How long after each frame's deadline its answer is of use."""

    def link(self, camera_id: str = "") -> LinkState:
        """As the test has it."""
        return self.state

    def send(
        self,
        frame: Frame,
        deadline_s: float,
        handler: ReplyHandler,
        option: str = "",
        useful_until_s: float = 0.0,
    ) -> None:
        """Keep the handler."""
        del option
        self.frames.append(frame)
        self.handlers.append(handler)
        self.useful_for_s.append(useful_until_s - deadline_s)


@dataclass
class Site:
    """A pipeline with what it sends and what it answers."""

    pipeline: Pipeline
    uplink: HeldUplink
    results: list[Result]


@pytest.fixture
def site() -> Callable[..., Site]:
    """A site of a link's state and keys of the policy."""

    def build(
        state: LinkState, mode: Mode = Mode.HYBRID, model: Predictor | None = None, **keys: object
    ) -> Site:
        results: list[Result] = []
        uplink, metrics, outlets = HeldUplink(state), Metrics(), Outlets([], lambda _: None)
        events = FrameEvents(metrics, outlets.put)
        events.result = results.append  # type: ignore[method-assign]
        auditor = Auditor(0.5, 0.5, None, metrics.edge_error)
        policy = policy_of(mode, **keys)  # type: ignore[arg-type]
        device = Device(
            model=None,  # type: ignore[arg-type]  # read by a reload alone
            predictor=GuardedPredictor(model or Unsure(), metrics.boxes_dropped),
            policies=(policy,),
            auditor=auditor,
            deadlines=DeadlineTable(events.result, time.monotonic, None, auditor.answered),
            offload=Offload(uplink),
            reporting=Reporting(metrics, outlets, events),
        )
        corrector = LastAnswerCorrector(TemporalConfig(max_age_s=1000))
        camera = CameraSettings(
            first_result_s=60.0,
            policy=policy,
            report_threshold=0.5,
            report=ReportFilter(0.5),
            temporal=corrector,
            redact=None,
        )
        return Site(Pipeline(device, camera), uplink, results)

    return build


def now_frame(sequence: int = 0) -> Frame:
    """A frame that was captured just now."""
    return frame(sequence, time.monotonic())


def test_a_frame_that_is_kept_is_answered_at_once(site: Callable[..., Site]) -> None:
    """By the edge, and nothing is sent."""
    keeps = site(LinkState(max_in_flight=4), threshold=0.9)
    keeps.pipeline.process(now_frame())
    assert [given.answered_by for given in keeps.results] == [AnsweredBy.EDGE]
    assert keeps.uplink.handlers == []


def test_a_frame_that_is_held_back_says_why(site: Callable[..., Site]) -> None:
    """Its result is the edge's, marked degraded, with the obstacle as error."""
    full = site(LinkState(in_flight=4, max_in_flight=4), threshold=0.1)
    full.pipeline.process(now_frame())
    (held,) = full.results
    assert (held.answered_by, held.error) == (AnsweredBy.EDGE_DEGRADED, "in-flight cap")
    assert held.decision.degraded


def test_a_reply_answers_its_frame_and_corrects_the_next(site: Callable[..., Site]) -> None:
    """The cloud's answer is the first frame's result, and moves what the second frame shows."""
    sends = site(LinkState(max_in_flight=4), threshold=0.1)
    sends.pipeline.process(now_frame(0))
    assert sends.results == []
    sends.uplink.handlers[0].complete(SAYS_SECOND)
    sends.uplink.state = LinkState(in_flight=4, max_in_flight=4)
    sends.pipeline.process(now_frame(1))
    first, second = sends.results
    assert (first.answered_by, first.decision.action) == (AnsweredBy.CLOUD, Action.SEND_FRAME)
    assert second.carried_from == first.frame_id


def test_the_probe_of_a_dead_link_is_answered_at_once(site: Callable[..., Site]) -> None:
    """By the edge; what the cloud says to it later is a revision."""
    state = LinkState(max_in_flight=4, breaker=BreakerPhase.HALF_OPEN)
    probes = site(state, Mode.CLOUD_ONLY)
    probes.pipeline.process(now_frame())
    assert [given.answered_by for given in probes.results] == [AnsweredBy.EDGE_DEGRADED]
    assert probes.results[0].decision.is_probe
    probes.uplink.handlers[0].complete(SAYS_SECOND)
    assert [given.revision for given in probes.results] == [0, 1]


def test_masks_classes_and_events_meet_each_frame(site: Callable[..., Site]) -> None:
    """The model sees no masked pixel; a class that nobody wants is hidden, and neither tracked nor told."""
    sends, told = site(LinkState(max_in_flight=4), Mode.CLOUD_ONLY, model=(model := Watchful())), list[str]()
    report = ReportFilter(0.5, classes=frozenset({1}))
    redact = build_redaction(
        RedactionConfig(classes=(0,), style=RedactionStyle.FILL, margin=0.0), (), DETECTION
    )
    assert redact
    camera = replace(
        sends.pipeline.settings,
        report=report,
        temporal=(stage := Numbered()),
        redact=redact,
        mask=build_masks([((0.5, 0.0), (1.0, 0.0), (1.0, 0.3))]),
        events=ObjectEvents(
            "cam",
            Rules(),
            ("person", "dog"),
            lambda kind, fields, _: told.append(f"{kind.value} {fields['phase']}"),
        ),
    )
    sends.pipeline.reconfigure(camera)
    sends.pipeline.process(now_frame())
    assert not model.shown[0][2, 60].any()
    assert model.shown[0][10, 5].all()
    assert [DETECTION.own(one).class_id.tolist() for one in stage.corrected] == [[1, 1]]
    (sent,) = sends.uplink.frames
    assert not sent.image[2, 60].any()
    assert not sent.image[10, 5].any()
    assert sent.hidden is not None
    assert len(sent.hidden) == 0
    assert told == ["appeared provisional"]
    seen = DETECTION.own(stage.corrected[0])[:1]
    sends.uplink.handlers[0].complete(replace(SAYS_SECOND, prediction=seen))
    assert told == ["appeared provisional", "appeared confirmed"]
    (answered,) = sends.results
    assert answered.tracks == (TrackMark(1, SeenBy.CLOUD, 0.0),)


def test_while_nothing_changes_the_model_rests(site: Callable[..., Site]) -> None:
    """Its last answer is given again, names its frame, and is treated as any; what moves, and time, wake it.

    A change below a mask is none, and other masks or classes make the model look again.
    """
    keeps = site(LinkState(max_in_flight=4), Mode.EDGE_ONLY, model=(model := Watchful()))
    settings = replace(
        keeps.pipeline.settings,
        temporal=(stage := Numbered()),
        refresh_s=5.0,
        mask=build_masks([((0.0, 0.0), (0.2, 0.0), (0.2, 1.0), (0.0, 1.0))]),
    )
    keeps.pipeline.reconfigure(settings)
    still = frame(0).image
    hidden, moved = still.copy(), still.copy()
    hidden[:, :8] += 100
    moved[20:30, 30:50] += 100
    shown = [(still, 0.0), (hidden, 1.0), (moved, 2.0), (moved, 6.9), (moved, 7.1)]
    for number, (image, at_s) in enumerate(shown):
        keeps.pipeline.process(replace(frame(number, at_s), image=image))
    keeps.pipeline.reconfigure(replace(settings, report=ReportFilter(0.85)))
    keeps.pipeline.process(replace(frame(5, 7.2), image=moved))
    first, third = (keeps.results[at].frame_id for at in (0, 2))
    assert [given.reused_from for given in keeps.results] == ["", first, "", third, "", ""]
    assert (len(model.shown), keeps.pipeline.reused) == (4, 2)
    assert [len(DETECTION.own(one)) for one in stage.corrected] == [3] * 6
    assert keeps.results[1].timings.infer_s == 0.0
    assert keeps.results[1].prediction.boxes is not None


class Tracking(NoCorrection):
    """A stage whose tracks last long."""

    def correct(self, prediction: Prediction, image: Image, captured_s: float) -> Shown:
        """The prediction, with tracks of which half are right after 1000 s."""
        return Shown(prediction, tracks=(), summary=TrackSummary(shown=1, half_life_s=1000.0))


def test_a_frame_whose_answer_comes_late_is_answered_at_once_and_sent_for_its_tracks(
    site: Callable[..., Site],
) -> None:
    """Nobody waits for an answer that cannot come in time; it is a revision, and useful for long enough."""
    option = PayloadOption("picture", Action.SEND_FRAME, 20_000, latency_s=100.0, fidelity=1.0)
    view = LinkView(LinkEstimate(90.0, 1e6, 0.0, 0.0), (option,), may_probe=False)
    slow = site(LinkState(max_in_flight=4, view=view), Mode.CLOUD_ONLY)
    slow.pipeline.process(now_frame(0))
    assert [(given.answered_by, given.error) for given in slow.results] == [
        (AnsweredBy.EDGE_DEGRADED, "link too slow")
    ]
    slow.pipeline.reconfigure(replace(slow.pipeline.settings, temporal=Tracking(), late_window_s=500.0))
    slow.pipeline.process(now_frame(1))
    sent = slow.results[1]
    assert (sent.answered_by, sent.error) == (AnsweredBy.EDGE_DEGRADED, EXPECTED_LATE)
    assert (sent.decision.serves_later, sent.decision.degraded) == (True, False)
    assert slow.uplink.useful_for_s == [pytest.approx(500.0, abs=1.0)]
    slow.uplink.handlers[0].complete(SAYS_SECOND)
    assert slow.results[2].revision == 1


def test_a_pending_frame_ends_though_the_correction_fails() -> None:
    """Whatever raises on the way of a reply, the frame gets its result."""
    results: list[Result] = []
    table = DeadlineTable(results.append, time.monotonic)
    pending = table.register(result(), time.monotonic(), time.monotonic() + 60)

    def fails(outcome: object) -> None:
        del outcome
        raise RuntimeError("correction")

    with pytest.raises(RuntimeError, match="correction"):
        Replies(pending, first=fails).complete(CallFailure(CallStatus.UNAVAILABLE))
    assert [given.answered_by for given in results] == [AnsweredBy.EDGE_DEGRADED]
    assert len(table) == 0
