"""Video through the uplink to a scripted server: one more try where a reference is lost, and no loop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest

from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.edge.config import PayloadKind, PictureVariant, UplinkConfig
from spillover.edge.link.byte_budget import Budget, ByteMeter, wire_bytes
from spillover.edge.link.payload_costs import build_payload_costs
from spillover.edge.link.state import PayloadOption
from spillover.edge.payload.encoder import PICTURE, VIDEO, PayloadEncoder, as_it_waits
from spillover.edge.payload.streams import REFUSED_S, KeyCause
from spillover.edge.payload.video import VideoStreams
from spillover.edge.uplink.call_status import CallStatus
from spillover.edge.uplink.outcome import CloudAnswer
from tests.support.edge_values import frame
from tests.support.scripted_cloud import (
    PATIENCE_S,
    Behaviour,
    Held,
    ScriptedCloud,
    answers,
    refuses,
    scripted_cloud,
)
from tests.support.tracked import until
from tests.support.uplinks import RecordingObserver, RecordingReply, build_uplink
from tests.support.video import CountedStreams, held_codecs, scene

LOST = refuses(grpc.StatusCode.FAILED_PRECONDITION, "reference: number 1 is not held here; send a key")
REFUSED = refuses(grpc.StatusCode.FAILED_PRECONDITION, "stream: there is no room for another one")


SMALL = PictureVariant(jpeg_quality=20, longest_side=32, fidelity=0.9)


def once(first: Behaviour) -> Behaviour:
    """Do `first` to one call, and answer all others."""
    script = [first]

    def behave(request: pb.InferRequest, context: grpc.ServicerContext) -> pb.InferReply:
        return script.pop()(request, context) if script else answers(request, context)

    return behave


class Bench:
    """An uplink that sends video, and the server behind it."""

    def __init__(self, cloud: ScriptedCloud, meter: ByteMeter | None = None) -> None:
        config = UplinkConfig(address=cloud.address, payload=PayloadKind.VIDEO, variants=(SMALL,))
        self.cloud = cloud
        self.counted = CountedStreams()
        self.observer = RecordingObserver()
        self.streams = VideoStreams(config, 1, self.counted)
        self.costs = build_payload_costs(config, (), streams={VIDEO: self.streams.outlook})
        encoder = PayloadEncoder(config, "boot", streams={VIDEO: self.streams})
        self.uplink = build_uplink(config, self.observer, encoder=encoder, costs=self.costs, meter=meter)

    def send(self, number: int, option: str = VIDEO) -> RecordingReply:
        """Send one frame of the scene without waiting."""
        reply, now_s = RecordingReply(), time.monotonic()
        sent = replace(frame(number, now_s), image=scene(number))
        self.uplink.send(sent, now_s + PATIENCE_S, reply, option)
        return reply

    def answered(self, number: int) -> RecordingReply:
        """Send one frame, which has to be answered."""
        reply = self.send(number)
        assert isinstance(reply.outcome(), CloudAnswer)
        return reply

    def option(self) -> PayloadOption:
        """The usual form of the next frame."""
        return self.uplink.link("cam").view.options[0]

    def sent(self) -> list[str]:
        """What the server was sent, in order: `key`, `video` or `picture`."""
        return [_kind(request) for request in self.cloud.requests]

    def calls(self, count: int) -> list[tuple[str, str]]:
        """Status and kind of the calls that have ended."""
        found = [self.observer.next_call() for _ in range(count)]
        assert self.observer.calls.empty()
        return [(status, kind) for status, _, kind in found]


def _kind(request: pb.InferRequest) -> str:
    if request.WhichOneof("payload") != "video":
        return "picture"
    return "video" if request.video.position.reference else "key"


@contextmanager
def bench(behaviour: Behaviour = answers, meter: ByteMeter | None = None) -> Iterator[Bench]:
    """Serve and build."""
    with scripted_cloud(behaviour) as cloud:
        built = Bench(cloud, meter)
        try:
            yield built
        finally:
            assert built.uplink.stop(time.monotonic() + PATIENCE_S)


def test_frames_are_sent_against_what_was_answered():
    """A key, then small ones, each with its number, the one before it and even sides."""
    with bench() as b:
        for number in range(4):
            b.answered(number)
        videos = [request.video for request in b.cloud.requests]
        assert [(one.position.number, one.position.reference) for one in videos] == [
            (1, 0),
            (2, 1),
            (3, 2),
            (4, 3),
        ]
        assert {(one.width, one.height, len(one.packets)) for one in videos} == {(96, 64, 1)}
        assert b.calls(4) == [("ok", "video")] * 4


def test_a_lost_reference_sends_the_same_frame_again_as_a_key():
    """Once; it is answered, and so is the next one, against the key."""
    with bench() as b:
        b.answered(0)
        b.cloud.behaviour = once(LOST)
        reply = b.answered(1)
        b.answered(2)
        assert b.sent() == ["key", "video", "key", "video"]
        assert b.cloud.requests[1].frame_id == b.cloud.requests[2].frame_id
        assert b.cloud.requests[3].video.position.reference == 3
        assert reply.fallbacks == []
        assert b.calls(4)[1] == ("reference_lost", "video")


def test_a_server_that_loses_every_reference_gets_no_loop_of_keys():
    """Two calls for the frame, which then has failed and may wait; the next one is a picture."""
    with bench(LOST) as b:
        failure = b.send(0).failure()
        assert failure.status is CallStatus.REFERENCE_LOST
        assert failure.unsent is not None
        assert as_it_waits(failure.unsent).option == PICTURE
        assert b.sent() == ["key", "key"]
        assert b.option().name == PICTURE
        b.cloud.behaviour = answers
        reply = b.answered(1)
        assert b.sent() == ["key", "key", "picture"]
        assert reply.fallbacks == [(PICTURE, "its stream pauses")]
        assert b.calls(3) == [("reference_lost", "video"), ("reference_lost", "video"), ("ok", "picture")]


def test_a_refused_stream_sends_the_same_frame_as_a_picture():
    """And pictures for a while; the record says why."""
    with bench(once(REFUSED)) as b:
        reply = b.answered(0)
        b.answered(1)
        assert b.sent() == ["key", "picture", "picture"]
        ((form, why),) = reply.fallbacks
        assert form == PICTURE
        assert why.startswith("stream_refused: stream: there is no room")
        assert b.option().name == PICTURE
        assert b.calls(3) == [("stream_refused", "video"), ("ok", "picture"), ("ok", "picture")]


def test_a_server_that_refuses_pictures_as_streams_gets_two_calls():
    """A nonsense answer to a picture ends the frame."""
    with bench(REFUSED) as b:
        assert b.send(0).failure().status is CallStatus.STREAM_REFUSED
        assert b.sent() == ["key", "picture"]


@pytest.mark.parametrize("refusal", [LOST, REFUSED], ids=["lost", "refused"])
def test_a_stop_ends_a_frame_that_would_be_sent_again(refusal):
    """Its call is under way when the stop begins: no second one is made, and the frame may wait as a JPEG."""
    held = Held(refusal)
    with bench(held) as b:
        reply = b.send(0)
        held.arrived.get(timeout=PATIENCE_S)
        assert b.uplink.stop(time.monotonic() + PATIENCE_S)
        failure = reply.failure()
        held.release.set()
        assert failure.status is CallStatus.STOPPED
        assert failure.unsent is not None
        assert as_it_waits(failure.unsent).option == PICTURE
        assert len(b.cloud.requests) == 1


def test_calls_that_overlap_carry_the_same_packets_until_one_is_answered():
    """Whichever answer comes first, the others were whole."""
    held = Held()
    with bench(held) as b:
        replies = [b.send(number) for number in range(2)]
        for _ in replies:
            held.arrived.get(timeout=PATIENCE_S)
        videos = sorted((request.video for request in b.cloud.requests), key=lambda one: one.position.number)
        assert [len(one.packets) for one in videos] == [1, 2]
        assert videos[1].packets[0] == videos[0].packets[0]
        held.release.set()
        for reply in replies:
            assert isinstance(reply.outcome(), CloudAnswer)
        b.answered(2)
        assert b.sent()[-1] == "video"


def test_the_policy_is_told_what_the_next_frame_will_take():
    """The size of a key while one is due, and what is sent again with a frame; pictures while it pauses."""
    with bench() as b:
        guess = b.option()
        assert (guess.name, guess.measured) == (VIDEO, False)
        assert guess.payload_bytes > 10_000
        keys = b.answered(0).payloads
        after_key = b.option().payload_bytes
        assert after_key < keys[0][0] / 5
        for number in range(1, 8):
            b.answered(number)
        usual = b.option()
        sizes = [len(request.video.packets[0]) for request in b.cloud.requests[1:]]
        assert min(sizes) <= usual.payload_bytes <= max(sizes)
        assert len(b.uplink.link("cam").view.options) == 1
        b.cloud.behaviour = LOST
        assert b.send(8).failure().status is CallStatus.REFERENCE_LOST
        other = b.uplink.link("other").view.options[0]
        assert other.name == VIDEO
        assert min(size for size, _ in keys) * 0.5 < other.payload_bytes < 2 * max(size for size, _ in keys)
        assert b.option().name == PICTURE


class Till:
    """A byte budget whose clock the test moves; its bucket is full at first."""

    def __init__(self, bucket_bytes: float) -> None:
        self.now_s = 0.0
        budget = Budget(20 * bucket_bytes, 20.0, bucket_bytes)
        self.meter = ByteMeter(budget, lambda: self.now_s)
        self.wait()

    def wait(self) -> None:
        """Until the bucket is full."""
        self.now_s += 60.0


def _sizes() -> tuple[int, int]:
    """Bytes on the wire of the scene's key, and of its smallest picture, as calls."""
    with bench() as b:
        b.answered(0)
        assert isinstance(b.send(1, SMALL.name).outcome(), CloudAnswer)
        key, picture = (wire_bytes(request.ByteSize()) for request in b.cloud.requests)
    return int(key), int(picture)


def test_a_bucket_smaller_than_a_key_gets_pictures_until_a_key_fits():
    """The frame itself as a picture, and no key is tried for a minute; then one that fits is sent."""
    key, picture = _sizes()
    assert picture < key - 20
    till = Till(key - 20)
    with bench(meter=till.meter) as b:
        now_s = [0.0]
        b.streams._streams.clock = lambda: now_s[0]
        reply = b.send(0)
        reply.outcome()
        ((form, why),) = reply.fallbacks
        assert form == PICTURE
        assert why.startswith("exceeds_bucket")
        assert b.streams.paused() == {"cam": KeyCause.TOO_LARGE}
        for number in range(1, 5):
            till.wait()
            assert VIDEO not in {option.name for option in b.uplink.link("cam").view.options}
            assert isinstance(b.send(number, SMALL.name).outcome(), CloudAnswer)
        assert "key" not in b.sent()
        now_s[0] += 2 * REFUSED_S
        till.wait()
        assert b.option().name == VIDEO
        flat = replace(frame(9, time.monotonic()), image=np.full((64, 96, 3), 90, np.uint8))
        reply = RecordingReply()
        b.uplink.send(flat, time.monotonic() + PATIENCE_S, reply, VIDEO)
        assert isinstance(reply.outcome(), CloudAnswer)
        assert b.sent()[-1] == "key"
        assert b.counted.keys == [KeyCause.FIRST, KeyCause.TOO_LARGE]
        assert b.streams.paused() == {}


def test_what_was_never_acknowledged_is_not_sent_again_above_the_bucket():
    """The key fits, but not with what came behind it: another key is due at once."""
    key, _ = _sizes()
    till, held = Till(key + 20), Held()
    with bench(held, till.meter) as b:
        first = b.send(0)
        held.arrived.get(timeout=PATIENCE_S)
        till.wait()
        second = b.send(1)
        held.arrived.get(timeout=PATIENCE_S)
        held.release.set()
        assert isinstance(first.outcome(), CloudAnswer)
        assert isinstance(second.outcome(), CloudAnswer)
        assert b.counted.keys[1:] == [KeyCause.BEHIND]


def test_a_camera_that_ends_gives_its_codec_back():
    """Behind its last frame, which is encoded and answered; a late answer to it does no harm."""
    held = Held()
    with bench(held) as b:
        reply = b.send(0)
        held.arrived.get(timeout=PATIENCE_S)
        b.uplink.ended("cam")
        until(lambda: held_codecs() == 0)
        held.release.set()
        assert isinstance(reply.outcome(), CloudAnswer)
        assert b.sent() == ["key"]
