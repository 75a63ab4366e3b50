"""Video over a real connection: each answer is to the picture that was sent, whatever arrives when."""

import os
import sys
from dataclasses import replace

import grpc
import numpy as np
import pytest
from structlog.testing import capture_logs

from spillover.common.model.ensemble.opening import load_model
from spillover.common.model.session import Model
from spillover.common.security.tokens import add_token
from spillover.common.wire.conversion import reply_from_pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.models import bright_detector, colour_classifier, fuse
from tests.support.pki import Pki, bearer, secure_channel
from tests.support.serving import CALL_S, cloud_config, serving, stub_of
from tests.support.video_sender import VideoSender, video_request

LOST = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A classifier, a detector, and a fused model of two."""
    parts, root = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("repository")
    colour_classifier(root)
    fuse(root, bright_detector(parts, "small"), bright_detector(parts, "large", side=32))
    return root


@pytest.fixture(scope="module")
def server(repository):
    """A server with room for streams."""
    with serving(cloud_config(repository)) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server):
    """Its client."""
    with stub_of(server) as stub:
        yield stub


def ask(stub, video, model="colour", **fields):
    """The prediction for a payload."""
    return reply_from_pb(stub.Infer(video_request(video, model, **fields), timeout=CALL_S)).prediction


def refused(stub, video, **fields):
    """The first word of why a payload is refused."""
    with pytest.raises(grpc.RpcError) as error:
        ask(stub, video, **fields)
    assert error.value.code() is LOST
    return error.value.details().partition(":")[0]


def test_a_stream_is_answered_picture_by_picture(stub, repository):
    """A key, then what changed: each answer is that of the model to the decoded picture."""
    sender, model = VideoSender(), Model.load(repository / "colour" / "1")
    for _ in range(6):
        number = sender.add()
        expected = model.predict(sender.pictures[number])[0]
        answer = ask(stub, sender.video(number, number - 1))
        assert answer.class_id[0] == expected.class_id[0] == number % 3
        assert answer.probability[0] == pytest.approx(expected.probability[0], abs=1e-5)


def test_a_fused_model_is_answered_too(stub, repository):
    """A picture of a stream goes to every member, as it does in this process."""
    sender, fused = VideoSender(), load_model(repository / "fused" / "1")
    for number in (sender.add(), sender.add()):
        expected = fused.predict(sender.pictures[number])[0]
        answer = ask(stub, sender.video(number, number - 1), "fused")
        np.testing.assert_allclose(answer.xyxy, expected.xyxy, atol=0.01)
        np.testing.assert_allclose(answer.confidence, expected.confidence, atol=1e-4)
        assert len(answer) == 1


def test_packets_that_the_server_has_not_had_are_decoded(stub):
    """A payload carries all packets behind what was acknowledged; lost calls cost no key."""
    sender = VideoSender()
    ask(stub, sender.video(sender.add()))
    for _ in range(4):
        sender.add()
    assert ask(stub, sender.video(5, 1)).class_id[0] == 5 % 3


def test_repeated_and_overtaken_calls_are_answered(stub):
    """A picture that was decoded not long ago is asked for again, and one that another call has overtaken."""
    sender = VideoSender()
    ask(stub, sender.video(sender.add()))
    sender.add(), sender.add()
    assert ask(stub, sender.video(3, 1)).class_id[0] == 0
    assert ask(stub, sender.video(2, 1)).class_id[0] == 2
    assert ask(stub, sender.video(3, 1)).class_id[0] == 0


def test_what_the_server_does_not_have_needs_a_key(stub):
    """An unknown stream, and a gap, are told as such; a key goes on."""
    sender = VideoSender()
    for _ in range(4):
        sender.add()
    assert refused(stub, sender.video(3, 2)) == "reference"
    ask(stub, sender.video(1))
    assert refused(stub, sender.video(4, 2)) == "reference"
    number = sender.add(key=True)
    assert ask(stub, sender.video(number)).class_id[0] == number % 3


def test_without_room_for_streams_pictures_are_asked_for(repository):
    """With `stream_bytes: 0` no stream begins, and the status says so."""
    config = cloud_config(repository, limits={"stream_bytes": 0})
    sender = VideoSender()
    with serving(config) as running, stub_of(running) as stub:
        assert refused(stub, sender.video(sender.add())) == "stream"


def value(server, name, **labels):
    """A metric's value."""
    return server.metrics.registry.get_sample_value(f"spillover_{name}", labels)


def test_a_repeated_request_is_answered_from_memory_and_another_is_not(server, stub):
    """The same packets of the same frame; the frame as a key is other bytes, and is worked on."""
    sender, fields = VideoSender(), {"boot_id": "boot", "sequence": 1}
    ask(stub, sender.video(sender.add()))
    sender.add()
    before, answers = value(server, "repeated_total"), []
    for reference in (1, 1, 0):
        request = video_request(sender.video(2, reference), "colour", **fields)
        answers.append(stub.Infer(request, timeout=CALL_S))
    assert value(server, "repeated_total") == before + 1
    assert answers[0] == answers[1] != answers[2]
    assert answers[0].classification == answers[2].classification


def test_a_stream_goes_on_over_another_connection(server):
    """A reconnect needs no key, nor does one server's stream end with a connection."""
    sender = VideoSender()
    for reference in (0, 1):
        number = sender.add()
        with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            answer = ask(pb_grpc.SpilloverStub(channel), sender.video(number, reference))
        assert answer.class_id[0] == number % 3


def test_calls_of_many_streams_at_once_are_all_right(server, stub):
    """In any order over the threads: each answer is to its own picture, or asks for a key."""
    senders = [VideoSender() for _ in range(6)]
    calls = []
    for number in range(1, 9):
        for sender in senders:
            sender.add()
            request = video_request(sender.video(number, max(1, number - 3) if number > 1 else 0), "colour")
            calls.append((number, stub.Infer.future(request, timeout=CALL_S)))
    answered = 0
    for number, call in calls:
        if call.exception() is None:
            answered += 1
            assert reply_from_pb(call.result()).prediction.class_id[0] == number % 3
        else:
            assert call.code() is LOST
            assert call.details().startswith("reference:")
    assert answered >= len(senders)
    assert value(server, "streams", state="busy") == 0


def test_garbage_stops_nobody(stub):
    """Packets that are none, sides that are not theirs, digests that are wrong: each has its status."""
    sender, other = VideoSender(), VideoSender()
    video = other.video(other.add())
    ask(stub, sender.video(sender.add()))
    for forged in (
        replace(video, packets=(os.urandom(2000),)),
        replace(video, packets=(b"",)),
        replace(video, width=640, height=480),
        replace(video, position=replace(video.position, digest=1)),
    ):
        assert refused(stub, forged) == "reference"
    with pytest.raises(grpc.RpcError) as error:
        ask(stub, replace(video, width=30_000, height=30_000))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    sender.add()
    assert ask(stub, sender.video(2, 1)).class_id[0] == 2
    assert ask(stub, video).class_id[0] == 1


def test_who_knows_another_s_stream_does_not_reach_it(repository, tmp_path):
    """Proven callers have streams of their own, whatever ids they send."""
    pki, tokens_file = Pki(tmp_path / "ca"), tmp_path / "tokens.yaml"
    tokens = [bearer(add_token(tokens_file, name, "device", None)) for name in ("ann", "bob")]
    security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens_file)}
    sender = VideoSender()
    sender.add(), sender.add()
    with (
        serving(cloud_config(repository, security=security)) as running,
        secure_channel(running, pki.credentials()) as channel,
    ):
        stub, codes = pb_grpc.SpilloverStub(channel), []
        for number, token in ((1, tokens[0]), (2, tokens[1]), (2, tokens[0])):
            request = video_request(sender.video(number, number - 1), "colour", device="")
            call = stub.Infer.future(request, timeout=CALL_S, metadata=token)
            codes.append(call.code())
    assert codes == [grpc.StatusCode.OK, LOST, grpc.StatusCode.OK]


def test_a_stop_ends_streams_that_are_under_way(repository):
    """Within its limit, with calls in flight; nothing is left behind."""
    sender = VideoSender()
    for _ in range(20):
        sender.add()
    with serving(cloud_config(repository)) as running, stub_of(running) as stub:
        calls = [
            stub.Infer.future(video_request(sender.video(number), "colour"), timeout=CALL_S)
            for number in range(1, 21)
        ]
    codes = {call.code() for call in calls}
    assert codes <= {grpc.StatusCode.OK, LOST, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_where_there_is_no_codec_the_log_says_what_to_install(repository, monkeypatch):
    """And the refusal only that there is none: what to install is nothing that the device can do."""
    sender = VideoSender()
    video = sender.video(sender.add())
    monkeypatch.setitem(sys.modules, "av", None)
    with capture_logs() as log, serving(cloud_config(repository)) as running, stub_of(running) as stub:
        with pytest.raises(grpc.RpcError) as error:
            ask(stub, video)
        assert error.value.details().startswith("stream: ")
        assert "has no codec for video" in error.value.details()
    (line,) = (line for line in log if "video" in line["event"])
    assert line["event"] == "serves no video"
    assert "spillover[video]" in line["because"]
