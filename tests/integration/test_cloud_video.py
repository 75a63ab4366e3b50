"""Video over a real connection: each answer is to the picture that was sent, whatever arrives when."""

import grpc
import pytest

from spillover.common.model.session import Model
from spillover.common.wire.conversion import reply_from_pb
from tests.support.models import bright_detector, colour_classifier, fuse
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


def test_a_fused_model_is_answered_too(stub):
    """A picture of a stream goes to every member."""
    sender = VideoSender()
    assert len(ask(stub, sender.video(sender.add()), "fused")) == 1


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
