"""The uplink against a real gRPC server: every way a call can end completes its handler once."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from structlog.testing import capture_logs

from spillover.common.images import decode_jpeg
from spillover.common.types import Classification, Detections, Frame, Prediction
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.edge.config import UplinkConfig
from spillover.edge.link.payload_costs import PayloadCostModel, build_payload_costs
from spillover.edge.link.state import BreakerPhase
from spillover.edge.payload.encoder import PICTURE, PayloadEncoder
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.client import GrpcUplink
from spillover.edge.uplink.in_flight import PUSHBACK_KEY
from spillover.edge.uplink.outcome import CallFailure, CloudAnswer
from tests.support.edge_values import frame
from tests.support.scripted_cloud import (
    PATIENCE_S,
    Behaviour,
    Held,
    ScriptedCloud,
    answers,
    classes,
    no_server_address,
    refuses,
    scripted_cloud,
)
from tests.support.uplinks import RecordingObserver, RecordingReply, build_uplink, send

DEADLINE_S = 30.0


class Bench:
    """A cloud and an uplink to it."""

    def __init__(self, cloud: ScriptedCloud, uplink: GrpcUplink, observer: RecordingObserver) -> None:
        self.cloud = cloud
        self.uplink = uplink
        self.observer = observer

    def send(
        self,
        sequence: int = 0,
        deadline_s: float = DEADLINE_S,
        size: tuple[int, int] = (48, 64),
        useful_s: float = 0.0,
    ) -> RecordingReply:
        """Send one grey frame."""
        return send(self.uplink, frame(sequence, time.monotonic(), size), deadline_s, useful_s)


Start = Callable[..., Bench]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a cloud that behaves so, and an uplink to it with these keys."""
    with ExitStack() as stack:

        def make(
            behaviour: Behaviour = answers,
            expects: type[Prediction] = Classification,
            encoder: PayloadEncoder | None = None,
            costs: PayloadCostModel | None = None,
            **keys: object,
        ) -> Bench:
            cloud = stack.enter_context(scripted_cloud(behaviour))
            config = UplinkConfig(**({"address": cloud.address} | keys))  # type: ignore[arg-type]
            observer = RecordingObserver()
            uplink = build_uplink(config, observer, expects, encoder=encoder, costs=costs)
            stack.callback(lambda: uplink.stop(time.monotonic() + PATIENCE_S))
            return Bench(cloud, uplink, observer)

        yield make


def test_answer_arrives(start: Start) -> None:
    """A reply becomes a prediction with model and times; the request carries who, what and how long."""
    bench = start(model_name="big", model_version="7", max_classes=3)
    handler = bench.send(sequence=5)
    answer = handler.outcome()
    assert isinstance(answer, CloudAnswer)
    assert isinstance(answer.prediction, Classification)
    assert answer.prediction.class_id.tolist() == [2, 1, 0]
    assert str(answer.model) == "big@7"
    assert answer.server_infer_s == pytest.approx(4e-6)
    assert answer.network_s > 0
    [request] = bench.cloud.requests
    assert (request.device_id, request.boot_id, request.camera_id, request.sequence) == (
        "dev",
        "boot",
        "cam",
        5,
    )
    assert (request.model.name, request.model.version, request.max_classes) == ("big", "7", 3)
    assert 0 < request.time_left_us <= DEADLINE_S * 1e6
    assert decode_jpeg(request.image.data, 10_000).shape == (48, 64, 3)
    [(payload_bytes, _)] = handler.payloads
    assert payload_bytes == len(request.image.data)
    assert bench.observer.next_call() == ("ok", payload_bytes, "picture")


def test_boxes_come_back_in_frame_pixels(start: Start) -> None:
    """Boxes of a picture that was shrunk for sending are in pixels of the frame, clipped to it."""

    def detect(request: pb.InferRequest, _: grpc.ServicerContext) -> pb.InferReply:
        boxes = pb.Detections(xyxy=[1, 2, 10, 20, 0, 0, 99, 99], confidence=[0.9, 0.8], class_id=[4, 5])
        return pb.InferReply(frame_id=request.frame_id, model=pb.ModelRef(name="d"), detections=boxes)

    bench = start(detect, Detections, longest_side=32)
    answer = bench.send(size=(48, 64)).outcome()
    assert isinstance(answer, CloudAnswer)
    assert isinstance(answer.prediction, Detections)
    np.testing.assert_allclose(answer.prediction.xyxy, [[2, 4, 20, 40], [0, 0, 64, 48]])
    assert decode_jpeg(bench.cloud.requests[0].image.data, 10_000).shape == (24, 32, 3)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "resource_exhausted"),
        (grpc.StatusCode.UNAVAILABLE, "unavailable"),
        (grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument"),
    ],
)
def test_refusal_is_a_failure_with_its_status(start: Start, code: grpc.StatusCode, status: str) -> None:
    """A status other than OK is a failure with its name and the server's text, and is counted."""
    bench = start(refuses(code, "because"))
    assert str(bench.send().failure()) == f"{status}: because"
    assert bench.observer.next_call()[0] == status


def test_nobody_there(start: Start) -> None:
    """A server that does not exist is a failure at once, not at the deadline; no byte counts as sent."""
    bench = start(address=no_server_address())
    assert bench.send().failure().status is CallStatus.UNAVAILABLE
    assert bench.observer.next_call() == ("unavailable", 0, "picture")


@pytest.mark.parametrize(("trailing", "pushed_back"), [((), False), (((PUSHBACK_KEY, "1"),), True)])
def test_a_full_server_is_told_from_one_that_cannot(
    start: Start, trailing: tuple[tuple[str, str], ...], pushed_back: bool
) -> None:
    """Only a server that names a time to come back is merely full; without one the frame may be to blame."""
    bench = start(refuses(grpc.StatusCode.RESOURCE_EXHAUSTED, "no", trailing))
    refused = bench.send().failure()
    assert (refused.status, refused.pushed_back) == (CallStatus.RESOURCE_EXHAUSTED, pushed_back)


def _wrong_id(request: pb.InferRequest, _: grpc.ServicerContext) -> pb.InferReply:
    reply = classes(request, 1)
    reply.frame_id = "somebody-else"
    return reply


def _nothing(request: pb.InferRequest, _: grpc.ServicerContext) -> pb.InferReply:
    return pb.InferReply(frame_id=request.frame_id, model=pb.ModelRef(name="m"))


def _not_a_number(request: pb.InferRequest, _: grpc.ServicerContext) -> pb.InferReply:
    reply = classes(request, 1)
    reply.classification.probability[0] = float("nan")
    return reply


def _other_task(request: pb.InferRequest, _: grpc.ServicerContext) -> pb.InferReply:
    return pb.InferReply(frame_id=request.frame_id, model=pb.ModelRef(name="m"), detections=pb.Detections())


@pytest.mark.parametrize(
    ("behaviour", "status", "says"),
    [
        (
            _other_task,
            "other_task",
            "uplink.model_name: it gives Detections, the edge's model Classification",
        ),
        (
            refuses(grpc.StatusCode.NOT_FOUND, "no model 'nope'"),
            "not_found",
            "uplink.model_name: no model 'nope'",
        ),
        (refuses(grpc.StatusCode.UNIMPLEMENTED, "no method"), "unimplemented", "uplink.protocol: no method"),
    ],
)
def test_a_cloud_that_does_not_fit_is_told_clearly_and_once(
    start: Start, behaviour: Behaviour, status: str, says: str
) -> None:
    """One error in the log with the key that would mend it; observers know until the cloud answers again."""
    with capture_logs() as log:
        bench = start(behaviour)
        for sequence in range(3):
            assert bench.send(sequence).failure().status.value == status
        bench.cloud.behaviour = answers
        assert isinstance(bench.send(3).outcome(), CloudAnswer)
        bench.uplink.stop(time.monotonic() + PATIENCE_S)
    errors = [line for line in log if line["log_level"] == "error"]
    assert [f"{line['key']}: {line['detail']}" for line in errors] == [says]
    assert [line["event"] for line in errors] == ["edge and cloud do not fit"]
    assert bench.observer.misfits == [says, ""]


@pytest.mark.parametrize("behaviour", [_wrong_id, _nothing, _not_a_number])
def test_bad_reply_is_a_failure(start: Start, behaviour: Behaviour) -> None:
    """A reply for another frame, without prediction, or with nonsense is not believed."""
    assert start(behaviour).send().failure().status is CallStatus.BAD_REPLY


def test_pushback_is_obeyed_and_hints_are_kept(start: Start) -> None:
    """A refusal's pushback and the server's hints show in the link state."""
    trailing = (("grpc-retry-pushback-ms", "50000"), ("spillover-queue-wait-us", "2500"))
    bench = start(refuses(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", trailing))
    assert bench.uplink.link().pushback_left_s == 0
    bench.send().failure()
    link = bench.uplink.link()
    assert 40 < link.pushback_left_s <= 50
    assert link.server_queue_wait_s == 0.0025


def test_in_flight_is_counted(start: Start) -> None:
    """A frame is in flight from `send` until its call has ended, and then there is room again."""
    held = Held()
    bench = start(held, max_in_flight=1)
    handler = bench.send()
    held.arrived.get(timeout=PATIENCE_S)
    assert (bench.uplink.link().in_flight, bench.uplink.link().max_in_flight) == (1, 1)
    held.release.set()
    bench.uplink.wait_until_ready(PATIENCE_S)
    assert bench.uplink.link().in_flight == 0
    assert isinstance(handler.outcome(), CloudAnswer)


def test_late_answers_are_given_up(start: Start) -> None:
    """A call ends when the deadline and the window for late answers are over."""
    bench = start(Held(), late_answer_window_s=0.0)
    assert bench.send(deadline_s=1.0).failure().status is CallStatus.DEADLINE_EXCEEDED


def test_late_answer_still_arrives(start: Start) -> None:
    """Within the window an answer is delivered though the frame's own deadline has passed."""
    held = Held()
    bench = start(held, late_answer_window_s=PATIENCE_S)
    handler = bench.send(deadline_s=1.0)
    held.arrived.get(timeout=PATIENCE_S)
    assert not handler.completed_within(1.1)  # the deadline passes, and the call goes on
    held.release.set()
    assert isinstance(handler.outcome(), CloudAnswer)


@pytest.mark.parametrize("useful_s", [0.0, PATIENCE_S])
def test_an_answer_that_is_useful_later_is_not_late(start: Start, useful_s: float) -> None:
    """To the server, the breaker and the link estimate the call has as long as its answer is of use."""
    held = Held()
    bench = start(held, late_answer_window_s=PATIENCE_S, breaker_failures=1)
    handler = bench.send(deadline_s=0.5, useful_s=useful_s)
    held.arrived.get(timeout=PATIENCE_S)
    assert not handler.completed_within(0.6)  # the deadline passes
    opened = bench.uplink.link().breaker is not BreakerPhase.CLOSED
    held.release.set()
    assert isinstance(handler.outcome(), CloudAnswer)
    [request] = bench.cloud.requests
    is_late = not useful_s
    assert opened == is_late
    assert (request.time_left_us <= 0.5e6) == is_late
    assert (bench.uplink.link().view.estimate.deviation_s == 0) == is_late  # learnt in time alone


def test_a_frame_may_leave_after_its_deadline_while_its_answer_is_useful(start: Start) -> None:
    """Until the call would be given up, and no longer."""
    bench = start(late_answer_window_s=5.0)
    assert isinstance(bench.send(0, deadline_s=-1.0, useful_s=PATIENCE_S).outcome(), CloudAnswer)
    assert bench.send(1, deadline_s=-9.0, useful_s=PATIENCE_S).failure().status is CallStatus.NO_TIME_LEFT


def test_expired_frames_are_not_sent(start: Start) -> None:
    """A frame whose deadline has passed never leaves the device."""
    bench = start()
    assert bench.send(deadline_s=-1).failure().status is CallStatus.NO_TIME_LEFT
    assert not bench.cloud.requests


def test_a_frame_that_turns_out_too_large_for_the_link_is_not_sent(start: Start) -> None:
    """Over a link of 20 bytes/s a picture larger than usual would be late; it may wait in the spool.

    Without a forecast it leaves all the same.
    """
    costs = build_payload_costs(UplinkConfig(), ())
    costs.made(PICTURE, 200, 0.001)
    upload = costs.departed(PICTURE, 200, DEADLINE_S)
    costs.answered(PICTURE, upload, 10.0, 0.01)
    costs.landed(upload)
    bench = start(costs=costs)
    held = bench.send(deadline_s=5.0).failure()
    assert held.status is CallStatus.NO_TIME_LEFT
    assert "would be late" in held.detail
    assert held.unsent is not None
    assert not bench.cloud.requests
    assert isinstance(bench.send(sequence=1, deadline_s=500.0).outcome(), CloudAnswer)
    assert isinstance(start(costs=costs, forecast=False).send(deadline_s=5.0).outcome(), CloudAnswer)


def test_too_large_message_is_refused_here(start: Start) -> None:
    """A picture over `max_message_bytes` never leaves: its own status, no bytes counted, no other try."""
    bench = start(max_message_bytes=100)
    refused = bench.send(size=(400, 400)).failure()
    assert (refused.status, refused.unsent) == (CallStatus.TOO_LARGE, None)
    assert "max_message_bytes" in refused.detail
    assert bench.observer.next_call() == ("too_large", 0, "picture")
    assert not bench.cloud.requests


def test_stop_settles_everything(start: Start) -> None:
    """`stop` ends calls under way; when it returns true every handler is completed, and frames may wait."""
    held = Held()
    bench = start(held)
    handlers = [bench.send(sequence) for sequence in range(3)]
    held.arrived.get(timeout=PATIENCE_S)
    assert bench.uplink.stop(time.monotonic() + PATIENCE_S)
    failures = [handler.failure() for handler in handlers]
    assert {failure.status for failure in failures} <= {CallStatus.STOPPED, CallStatus.NOT_SENT}
    assert all(failure.unsent is not None for failure in failures)
    assert bench.uplink.link().in_flight == 0


def test_a_stopped_uplink_refuses_frames_and_raises_nothing(start: Start) -> None:
    """A frame that comes after `stop`, live or from the spool, fails at once and was never sent."""
    bench = start()
    assert isinstance(bench.send(0).outcome(), CloudAnswer)
    assert bench.uplink.stop(time.monotonic() + PATIENCE_S)
    assert str(bench.send(1).failure()) == "not_sent: stopped"
    waited = PayloadEncoder(UplinkConfig(), "boot").pack(frame())
    assert bench.uplink.deliver(waited, PATIENCE_S) == CallFailure(CallStatus.NOT_SENT, "stopped", waited)
    assert bench.uplink.stop(time.monotonic() + PATIENCE_S)
    assert len(bench.cloud.requests) == 1


class HangingEncoder(PayloadEncoder):
    """Encodes only once `release` is set."""

    def __init__(self) -> None:
        super().__init__(UplinkConfig(), "boot")
        self.entered = threading.Event()
        self.release = threading.Event()

    def pack(self, frame: Frame, option: str = "") -> EncodedFrame:
        """Wait, then encode."""
        self.entered.set()
        assert self.release.wait(PATIENCE_S)
        return super().pack(frame, option)


def test_what_hangs_is_left_behind_and_named(start: Start) -> None:
    """With an encoder that does not return, `stop` ends at its deadline and the log names the part."""
    encoder = HangingEncoder()
    bench = start(encoder=encoder)
    handler = bench.send()
    assert encoder.entered.wait(PATIENCE_S)
    with capture_logs() as log:
        assert not bench.uplink.stop(time.monotonic())
    assert [line["part"] for line in log if line["log_level"] == "warning"] == ["encoding thread", "calls"]
    encoder.release.set()
    assert str(handler.failure()) == "not_sent: stopped"
    assert bench.uplink.stop(time.monotonic() + PATIENCE_S)


def test_a_returning_server_is_found(start: Start) -> None:
    """After refusals the same channel delivers again: there is nothing to reset."""
    bench = start(refuses(grpc.StatusCode.UNAVAILABLE))
    bench.send().failure()
    bench.cloud.behaviour = answers
    assert isinstance(bench.send().outcome(), CloudAnswer)


@pytest.mark.parametrize("forecast", [True, False])
def test_without_a_forecast_no_failure_pauses_the_calls(start: Start, *, forecast: bool) -> None:
    """A sender that does not look at the link does not learn from it either: the breaker stays closed."""
    bench = start(refuses(grpc.StatusCode.UNAVAILABLE), breaker_failures=1, forecast=forecast)
    bench.send().failure()
    assert (bench.uplink.link().breaker is BreakerPhase.CLOSED) is not forecast


def test_the_log_names_what_the_cloud_refuses(start: Start) -> None:
    """A wrong model name, and a server that is not there, are in the log with the server's words."""
    with capture_logs() as log:
        wrong = start(refuses(grpc.StatusCode.NOT_FOUND, "no model 'bigg'"))
        wrong.send().failure()
        nobody = start(address=no_server_address(), breaker_failures=1)
        nobody.send().failure()
        nobody.uplink.stop(time.monotonic() + PATIENCE_S)
    logged = [(line["status"], line["detail"]) for line in log if line["log_level"] in {"warning", "error"}]
    assert logged[0] == ("not_found", "no model 'bigg'")
    assert logged[1][0] == "unavailable"
    assert "failed to connect" in logged[1][1]
