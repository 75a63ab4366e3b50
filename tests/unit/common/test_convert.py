"""Wire and values: there and back, and nothing in a reply is believed unchecked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spillover.common.errors import InvalidInputError
from spillover.common.types import Classification, Detections, ModelId
from spillover.common.wire.conversion import (
    InferenceReply,
    InferenceRequest,
    ServerTimings,
    reply_from_pb,
    reply_to_pb,
    request_from_pb,
    request_to_pb,
)
from spillover.common.wire.pb import spillover_pb2 as pb

TEXT = st.text(max_size=20)
SECONDS = st.integers(0, 2**32 - 1).map(lambda us: us / 1e6)
FLOATS = st.floats(-1e6, 1e6, width=32)

REQUESTS = st.builds(
    InferenceRequest,
    jpeg=st.binary(max_size=64),
    frame_id=TEXT,
    device_id=TEXT,
    camera_id=TEXT,
    boot_id=TEXT,
    sequence=st.integers(0, 2**64 - 1),
    model_name=TEXT,
    model_version=TEXT,
    time_left_s=st.none() | st.integers(1, 2**40).map(lambda us: us / 1e6),
    captured_unix_s=st.integers(0, 2**50).map(lambda us: us / 1e6),
    max_classes=st.integers(0, 2**32 - 1),
)


@st.composite
def classifications(draw: st.DrawFn) -> Classification:
    """Any classification with at least one class."""
    count = draw(st.integers(1, 8))
    return Classification(
        draw(hnp.arrays(np.int32, count)), draw(hnp.arrays(np.float32, count, elements=FLOATS))
    )


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    """Any detections, none included."""
    count = draw(st.integers(0, 6))
    return Detections(
        draw(hnp.arrays(np.float32, (count, 4), elements=FLOATS)),
        draw(hnp.arrays(np.float32, count, elements=FLOATS)),
        draw(hnp.arrays(np.int32, count)),
    )


REPLIES = st.builds(
    InferenceReply,
    frame_id=TEXT,
    model=st.builds(ModelId, TEXT.filter(bool), TEXT),
    prediction=classifications() | detections(),
    timings=st.builds(ServerTimings, SECONDS, SECONDS, SECONDS, SECONDS),
)


@given(REQUESTS)
def test_a_request_survives_the_wire(request: InferenceRequest) -> None:
    """Every field of a request arrives as it was sent."""
    wire = request_to_pb(request).SerializeToString()
    assert request_from_pb(pb.InferRequest.FromString(wire)) == request


@given(st.floats(-10, 0))
def test_a_deadline_that_has_passed_is_not_no_deadline(time_left_s: float) -> None:
    """0 on the wire means "no limit", so no time left is sent as the shortest time."""
    message = request_to_pb(InferenceRequest(b"", time_left_s=time_left_s))
    assert request_from_pb(message).time_left_s == 1e-6


@given(REPLIES)
def test_a_reply_survives_the_wire(reply: InferenceReply) -> None:
    """Every field of a reply arrives as it was sent; no boxes stay "no boxes", not "no answer"."""
    back = reply_from_pb(pb.InferReply.FromString(reply_to_pb(reply).SerializeToString()))
    assert (back.frame_id, back.model, back.timings) == (reply.frame_id, reply.model, reply.timings)
    assert type(back.prediction) is type(reply.prediction)
    for name in ("xyxy", "confidence", "class_id", "probability"):
        if isinstance(getattr(reply.prediction, name, None), np.ndarray):
            np.testing.assert_array_equal(getattr(back.prediction, name), getattr(reply.prediction, name))


@given(st.integers(1, 10))
def test_a_classification_is_cut_to_what_was_asked_for(count: int) -> None:
    """`max_classes` keeps the head of the list."""
    prediction = Classification(np.arange(5, dtype=np.int32), np.linspace(1, 0, 5, dtype=np.float32))
    reply = InferenceReply("f", ModelId("m", "1"), prediction, ServerTimings())
    back = reply_from_pb(reply_to_pb(reply, max_classes=count)).prediction
    assert isinstance(back, Classification)
    assert back.class_id.tolist() == list(range(min(count, 5)))


@given(st.binary(max_size=200))
def test_garbage_is_an_invalid_reply_or_a_finite_one(noise: bytes) -> None:
    """What parses as a message but makes no sense raises InvalidInputError and nothing else."""
    message = pb.InferReply()
    try:
        message.ParseFromString(noise)
    except Exception:  # noqa: BLE001 - protobuf's own refusal; gRPC turns it into a status
        return
    try:
        prediction = reply_from_pb(message).prediction
    except InvalidInputError:
        return
    values = prediction.probability if isinstance(prediction, Classification) else prediction.xyxy
    assert np.isfinite(values).all()


def wrong_replies() -> list[pb.InferReply]:
    """Replies that parse and are wrong, one fault each."""
    model = pb.ModelRef(name="m", version="1")
    return [
        pb.InferReply(classification=pb.Classification(class_id=[1], probability=[0.5])),
        pb.InferReply(model=model),
        pb.InferReply(model=model, classification=pb.Classification()),
        pb.InferReply(model=model, classification=pb.Classification(class_id=[1], probability=[0.5, 0.1])),
        pb.InferReply(
            model=model, classification=pb.Classification(class_id=[1], probability=[float("nan")])
        ),
        pb.InferReply(model=model, detections=pb.Detections(xyxy=[1, 2, 3], confidence=[1], class_id=[1])),
        pb.InferReply(model=model, detections=pb.Detections(confidence=[1], class_id=[1])),
        pb.InferReply(
            model=model,
            detections=pb.Detections(xyxy=[0, 0, 1, float("inf")], confidence=[1], class_id=[1]),
        ),
    ]


@pytest.mark.parametrize("message", wrong_replies())
def test_each_fault_of_a_reply_is_found(message: pb.InferReply) -> None:
    """No model, no prediction, lists that do not fit, numbers that are none."""
    with pytest.raises(InvalidInputError):
        reply_from_pb(message)


@pytest.mark.parametrize(
    "message",
    [
        pb.InferRequest(),
        pb.InferRequest(image=pb.EncodedImage(data=b"x")),
        pb.InferRequest(image=pb.EncodedImage(format=9, data=b"x")),  # type: ignore[arg-type]
    ],
)
def test_a_request_without_a_known_payload_is_refused(message: pb.InferRequest) -> None:
    """A newer edge's payload is named as unknown instead of being read as an empty picture."""
    with pytest.raises(InvalidInputError, match=r"payload|format"):
        request_from_pb(message)
