"""The uplink against a real gRPC server: every way a call can end settles its ticket once."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from queue import SimpleQueue

import grpc
import numpy as np
import pytest
from structlog.testing import capture_logs

from spillover.common.images import decode_jpeg
from spillover.common.types import Classification, Detections, Prediction
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.edge.config import UplinkConfig
from spillover.edge.link.state import BreakerPhase
from spillover.edge.payload.encoder import PayloadEncoder
from spillover.edge.uplink.client import GrpcUplink
from spillover.edge.uplink.in_flight import PUSHBACK_KEY
from spillover.edge.uplink.outcome import CallFailure, CallOutcome, CloudAnswer
from spillover.edge.uplink.protocol import SpilloverWire
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

DEADLINE_S = 30.0


class ReplyHandler:
    """Keeps what the uplink says."""

    def __init__(self) -> None:
        self.payload: tuple[int, float] | None = None
        self.outcomes: SimpleQueue[CallOutcome] = SimpleQueue()

    def encoded(self, payload_bytes: int, encode_s: float) -> None:
        """Keep it."""
        self.payload = payload_bytes, encode_s

    def complete(self, outcome: CallOutcome) -> None:
        """Keep it."""
        self.outcomes.put(outcome)

    def outcome(self) -> CallOutcome:
        """Wait for the one outcome."""
        return self.outcomes.get(timeout=PATIENCE_S)


class Observer:
    """Keeps what the uplink counts."""

    def __init__(self, calls: SimpleQueue[tuple[str, int]]) -> None:
        self._calls = calls

    def call(self, status: str, payload_bytes: int, kind: str) -> None:
        """Keep it."""
        self._calls.put((status, payload_bytes))

    def breaker(self, phase: BreakerPhase) -> None:
        """Seen in `link()`."""


class Bench:
    """A cloud and an uplink to it."""

    def __init__(self, cloud: ScriptedCloud, uplink: GrpcUplink, calls: SimpleQueue[tuple[str, int]]) -> None:
        self.cloud = cloud
        self.uplink = uplink
        self.calls = calls

    def send(
        self, sequence: int = 0, deadline_s: float = DEADLINE_S, size: tuple[int, int] = (48, 64)
    ) -> ReplyHandler:
        """Send one grey frame."""
        handler = ReplyHandler()
        now = time.monotonic()
        self.uplink.send(frame(sequence, now, size), now + deadline_s, handler)
        return handler


Start = Callable[..., Bench]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a cloud that behaves so, and an uplink to it with these keys."""
    with ExitStack() as stack:

        def make(
            behaviour: Behaviour = answers, expects: type[Prediction] = Classification, **keys: object
        ) -> Bench:
            cloud = stack.enter_context(scripted_cloud(behaviour))
            config = UplinkConfig(**({"address": cloud.address} | keys))  # type: ignore[arg-type]
            calls: SimpleQueue[tuple[str, int]] = SimpleQueue()
            observer = Observer(calls)
            uplink = GrpcUplink(
                config, PayloadEncoder(config, "boot"), SpilloverWire(config, "dev"), expects, observer
            )
            stack.callback(uplink.close)
            return Bench(cloud, uplink, calls)

        yield make


def failure(handler: ReplyHandler) -> CallFailure:
    """The outcome, which must be a failure."""
    outcome = handler.outcome()
    assert isinstance(outcome, CallFailure)
    return outcome


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
    assert handler.payload is not None
    assert handler.payload[0] == len(request.image.data)
    assert bench.calls.get(timeout=PATIENCE_S) == ("ok", len(request.image.data))


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
    """A status other than OK settles the ticket with its name and the server's text, and is counted."""
    bench = start(refuses(code, "because"))
    assert str(failure(bench.send())) == f"{status}: because"
    assert bench.calls.get(timeout=PATIENCE_S)[0] == status


def test_nobody_there(start: Start) -> None:
    """A server that does not exist is a failure at once, not at the deadline; no byte counts as sent."""
    bench = start(address=no_server_address())
    assert failure(bench.send()).status == "unavailable"
    assert bench.calls.get(timeout=PATIENCE_S) == ("unavailable", 0)


@pytest.mark.parametrize(("trailing", "pushed_back"), [((), False), (((PUSHBACK_KEY, "1"),), True)])
def test_a_full_server_is_told_from_one_that_cannot(
    start: Start, trailing: tuple[tuple[str, str], ...], pushed_back: bool
) -> None:
    """Only a server that names a time to come back is merely full; without one the frame may be to blame."""
    bench = start(refuses(grpc.StatusCode.RESOURCE_EXHAUSTED, "no", trailing))
    refused = failure(bench.send())
    assert (refused.status, refused.pushed_back) == ("resource_exhausted", pushed_back)


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


@pytest.mark.parametrize("behaviour", [_wrong_id, _nothing, _not_a_number, _other_task])
def test_bad_reply_is_a_failure(start: Start, behaviour: Behaviour) -> None:
    """A reply for another frame, without prediction, with nonsense, or of the wrong task is not believed."""
    assert failure(start(behaviour).send()).status == "bad reply"


def test_pushback_is_obeyed_and_hints_are_kept(start: Start) -> None:
    """A refusal's pushback and the server's hints show in the link state."""
    trailing = (
        ("grpc-retry-pushback-ms", "50000"),
        ("spillover-queue-wait-us", "2500"),
        ("spillover-load", "0.5"),
    )
    bench = start(refuses(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", trailing))
    assert bench.uplink.link().pushback_left_s == 0
    failure(bench.send())
    link = bench.uplink.link()
    assert 40 < link.pushback_left_s <= 50
    assert (link.server_queue_wait_s, link.server_load) == (0.0025, 0.5)


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
    assert failure(bench.send(deadline_s=1.0)).status == "deadline_exceeded"


def test_late_answer_still_arrives(start: Start) -> None:
    """Within the window an answer is delivered though the frame's own deadline has passed."""
    held = Held()
    bench = start(held, late_answer_window_s=PATIENCE_S)
    handler = bench.send(deadline_s=1.0)
    held.arrived.get(timeout=PATIENCE_S)
    with pytest.raises(TimeoutError):  # the deadline passes, and nothing is settled
        _wait(handler, 1.1)
    held.release.set()
    assert isinstance(handler.outcome(), CloudAnswer)


def _wait(handler: ReplyHandler, seconds: float) -> None:
    from queue import Empty

    try:
        handler.outcomes.get(timeout=seconds)
    except Empty as error:
        raise TimeoutError from error


def test_expired_frames_are_not_sent(start: Start) -> None:
    """A frame whose deadline has passed never leaves the device."""
    bench = start()
    assert failure(bench.send(deadline_s=-1)).status == "no time left"
    assert not bench.cloud.requests


def test_too_large_message_is_refused_here(start: Start) -> None:
    """A picture over `max_message_bytes` never leaves: its own status, no bytes counted, no other try."""
    bench = start(max_message_bytes=100)
    refused = failure(bench.send(size=(400, 400)))
    assert (refused.status, refused.unsent) == ("too_large", None)
    assert "max_message_bytes" in refused.detail
    assert bench.calls.get(timeout=PATIENCE_S) == ("too_large", 0)
    assert not bench.cloud.requests


def test_close_settles_everything(start: Start) -> None:
    """`close` ends calls under way; when it returns every ticket is settled."""
    held = Held()
    bench = start(held)
    handlers = [bench.send(sequence) for sequence in range(3)]
    held.arrived.get(timeout=PATIENCE_S)
    bench.uplink.close()
    assert {failure(handler).status for handler in handlers} <= {"cancelled", "stopped", "not sent"}
    assert bench.uplink.link().in_flight == 0


def test_a_returning_server_is_found(start: Start) -> None:
    """After refusals the same channel delivers again: there is nothing to reset."""
    bench = start(refuses(grpc.StatusCode.UNAVAILABLE))
    failure(bench.send())
    bench.cloud.behaviour = answers
    assert isinstance(bench.send().outcome(), CloudAnswer)


def test_the_log_names_what_the_cloud_refuses(start: Start) -> None:
    """A wrong model name, and a server that is not there, are in the log with the server's words."""
    with capture_logs() as log:
        wrong = start(refuses(grpc.StatusCode.NOT_FOUND, "no model 'bigg'"))
        failure(wrong.send())
        nobody = start(address=no_server_address(), breaker_failures=1)
        failure(nobody.send())
        nobody.calls.get(timeout=PATIENCE_S)
        nobody.uplink.close()
    said = [(line["status"], line["detail"]) for line in log if line["log_level"] == "warning"]
    assert said[0] == ("not_found", "no model 'bigg'")
    assert said[1][0] == "unavailable"
    assert "failed to connect" in said[1][1]
