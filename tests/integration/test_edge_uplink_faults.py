"""The uplink when a step of it raises: the frame is settled once, its place is free, the next one is sent."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from spillover.common.geometry import FrameTransform
from spillover.common.types import Image
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.edge.config import PayloadKind, SplitConfig, UplinkConfig
from spillover.edge.link.byte_budget import Unmetered
from spillover.edge.link.payload_costs import PayloadCostModel, build_payload_costs
from spillover.edge.payload.encoder import PICTURE, PayloadEncoder
from spillover.edge.payload.types import EncodedFeatures
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.client import GrpcUplink
from spillover.edge.uplink.outcome import CallFailure, CloudAnswer
from spillover.edge.uplink.protocol import SpilloverWire
from tests.support.edge_values import frame
from tests.support.scripted_cloud import PATIENCE_S, answers, scripted_cloud
from tests.support.uplinks import RecordingObserver, RecordingReply, build_uplink

CUT = "cut"
CALLS_FOR_A_RETRY = 5


class BrokenError(Exception):
    """What the broken step raises; no part of the uplink expects it."""


class Faults:
    """Makes one step raise, once, after it was passed `skip` times; until `armed` nothing happens."""

    def __init__(self, step: str, skip: int = 0) -> None:
        self.step = step
        self.skip = skip
        self.armed = False
        self.raised = threading.Event()

    def pass_step(self, step: str) -> None:
        """Raise if it is this step's turn."""
        if not self.armed or step != self.step:
            return
        self.skip -= 1
        if self.skip < 0:
            self.armed = False
            self.raised.set()
            raise BrokenError


class Breakable:
    """Stands before a real part and passes each call of it on as the step `<label>.<method>`."""

    def __init__(self, part: Any, label: str, faults: Faults) -> None:
        self._part = part
        self._label = label
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **keys: Any) -> Any:
            self._faults.pass_step(f"{self._label}.{name}")
            result = value(*arguments, **keys)
            further = {"method": "channel", "future": "rpc"}.get(name)
            return Breakable(result, further, self._faults) if further else result

        return call


class Cloud:
    """Refuses the next call with `code` if that is set, and answers all others."""

    code: grpc.StatusCode | None = None

    def __call__(self, request: pb.InferRequest, context: grpc.ServicerContext) -> pb.InferReply:
        """Refuse once, or answer."""
        code, self.code = self.code, None
        if code is not None:
            context.abort(code, "scripted")
        return answers(request, context)


class Cut:
    """An encoder of features."""

    def encode(self, image: Image) -> EncodedFeatures:
        """Not the picture's."""
        height, width = image.shape[:2]
        return EncodedFeatures(b"features", "0" * 64, FrameTransform(1.0, 1.0, 0.0, 0.0, width, height))


class Bench:
    """An uplink of breakable parts, with room for one call, and its cloud."""

    def __init__(self, uplink: GrpcUplink, cloud: Cloud, costs: PayloadCostModel, faults: Faults) -> None:
        self.uplink = uplink
        self.cloud = cloud
        self.costs = costs
        self.faults = faults

    def send(self, sequence: int, option: str = PICTURE) -> RecordingReply:
        """Send one frame, whose handler can break too, and wait until there is room again."""
        reply = RecordingReply()
        now_s = time.monotonic()
        handler = Breakable(reply, "handler", self.faults)
        self.uplink.send(frame(sequence, now_s), now_s + PATIENCE_S, handler, option)
        self.uplink.wait_until_ready(PATIENCE_S)
        return reply

    def check_as_good_as_new(self, reply: RecordingReply, completed: int = 1) -> None:
        """The step was reached, nothing is in flight, the next frame is answered, no handler ends twice."""
        assert self.faults.raised.wait(PATIENCE_S)
        assert self.uplink.link().in_flight == 0
        assert self.costs.view().estimate.backlog_s == 0
        further = self.send(1)
        assert isinstance(further.outcome(), CloudAnswer)
        assert self.uplink.stop(time.monotonic() + PATIENCE_S)
        assert (len(reply.outcomes), len(further.outcomes)) == (completed, 1)


@contextmanager
def bench(step: str, skip: int = 0, **keys: Any) -> Iterator[Bench]:
    """Serve and build; the fault is armed by the test."""
    faults, cloud = Faults(step, skip), Cloud()
    with scripted_cloud(cloud) as server:
        split = SplitConfig(folder="unused", cuts=(CUT,))
        config = UplinkConfig(
            address=server.address, max_in_flight=1, payload=PayloadKind.AUTO, split=split, **keys
        )
        costs = build_payload_costs(config, ())

        parts = {
            "encoder": PayloadEncoder(config, "boot", {CUT: Cut()}),
            "wire": SpilloverWire(config, "dev"),
            "costs": costs,
            "meter": Unmetered(),
            "observer": RecordingObserver(),
        }
        broken = {label: Breakable(part, label, faults) for label, part in parts.items()}
        uplink = build_uplink(config, **broken)
        try:
            yield Bench(uplink, cloud, costs, faults)
        finally:
            uplink.stop(time.monotonic() + PATIENCE_S)


BEFORE_THE_CALL = [
    ("encoder.pack", 0),
    ("handler.encoded", 0),
    ("costs.made", 0),
    ("wire.refit", 0),
    ("encoder.check_may_leave", 0),
    ("wire.request", 0),
    ("meter.take", 0),
    ("channel.future", 0),
    ("rpc.add_done_callback", 0),
]
DURING_THE_CALL = [
    ("costs.departed", 0),
    ("rpc.add_done_callback", 1),
    ("rpc.trailing_metadata", 0),
    ("rpc.code", 0),
    ("wire.reply", 0),
    ("costs.answered", 0),
]


@pytest.mark.parametrize(("step", "skip"), BEFORE_THE_CALL + DURING_THE_CALL)
def test_a_step_that_raises_settles_its_frame(step: str, skip: int) -> None:
    """Whichever it is: the frame fails and may wait in the spool; the traceback is in the log once."""
    with capture_logs() as log, bench(step, skip) as started:
        started.faults.armed = True
        reply = started.send(0)
        failure = reply.failure()
        is_before = (step, skip) in BEFORE_THE_CALL
        assert failure.status is (CallStatus.NOT_SENT if is_before else CallStatus.EDGE_FAULT)
        assert (failure.unsent is None) == (step == "encoder.pack")
        started.check_as_good_as_new(reply)
    assert [line["event"] for line in log] == ["a fault of this program in the uplink"]


@pytest.mark.parametrize(("step", "skip"), [("costs.unreachable", 0), ("observer.call", CALLS_FOR_A_RETRY)])
def test_a_second_try_that_cannot_be_begun_settles_its_frame(step: str, skip: int) -> None:
    """What raises between a failed call and the one that takes its place ends the frame."""
    with bench(step, skip) as started:
        started.faults.armed = True
        for sequence in range(CALLS_FOR_A_RETRY):
            started.send(10 + sequence)
        started.cloud.code = grpc.StatusCode.UNAVAILABLE
        reply = started.send(0)
        assert reply.failure().status is CallStatus.EDGE_FAULT
        started.check_as_good_as_new(reply)


@pytest.mark.parametrize("step", ["costs.refused", "handler.fall_back", "observer.call", "encoder.pack"])
def test_a_picture_that_cannot_take_the_place_of_features_settles_its_frame(step: str) -> None:
    """What raises between refused features and the picture ends the frame."""
    with bench(step, skip=int(step == "encoder.pack")) as started:
        started.faults.armed = True
        started.cloud.code = grpc.StatusCode.FAILED_PRECONDITION
        reply = started.send(0, CUT)
        assert reply.failure().status in {CallStatus.EDGE_FAULT, CallStatus.NOT_SENT}
        started.check_as_good_as_new(reply)


@pytest.mark.parametrize("step", ["observer.call", "observer.breaker"])
def test_an_observer_that_raises_takes_no_answer_away(step: str) -> None:
    """The outcome is the handler's all the same, and the place is free."""
    with bench(step, breaker_failures=1) as started:
        started.faults.armed = True
        started.cloud.code = grpc.StatusCode.INTERNAL
        reply = started.send(0)
        assert reply.failure().status is CallStatus.INTERNAL
        started.check_as_good_as_new(reply)


def test_a_handler_that_raises_is_not_completed_again() -> None:
    """Its fault is logged, its place is free."""
    with bench("handler.complete") as started:
        started.faults.armed = True
        started.check_as_good_as_new(started.send(0), completed=0)


def test_a_frame_from_the_spool_that_cannot_be_sent_is_given_back() -> None:
    """`deliver` returns the failure, it does not wait for an end that never comes."""
    with bench("wire.request") as started:
        encoded_frame = PayloadEncoder(UplinkConfig(), "boot").pack(frame())
        started.faults.armed = True
        outcome = started.uplink.deliver(encoded_frame, PATIENCE_S)
        assert isinstance(outcome, CallFailure)
        assert outcome.status is CallStatus.NOT_SENT
        assert isinstance(started.uplink.deliver(encoded_frame, PATIENCE_S), CloudAnswer)
