"""Features as changes: what the edge keeps, and both ends together under losses, repeats and reorderings."""

import random
from collections import Counter
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.cloud.models.tails import TailAdapter
from spillover.cloud.serving.streams.features import FeatureStream
from spillover.cloud.serving.streams.losses import Loss, LostError
from spillover.common.features.codec import decode_features
from spillover.common.model.session import Model
from spillover.edge.payload.feature_streams import IN_FLIGHT, FeatureStreams
from spillover.edge.payload.features import FeatureEncoder
from spillover.edge.payload.streams import CALM_S, REFUSED_S, KeyCause
from tests.support.splitting import residual_classifier, split_classifier

CUT = "sum"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A split model that was planned for changes."""
    folder = residual_classifier(tmp_path_factory.mktemp("models"))
    split_classifier(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    """The real head."""
    return FeatureEncoder(folder, CUT)


@pytest.fixture(scope="module")
def tail(folder, encoder):
    """What decodes on the other side."""
    return TailAdapter(Model.load(folder), encoder.cut)


def image(number, seed=0):
    """A scene in which a square moves."""
    scene = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    left = number * 3 % 24
    scene[8:16, left : left + 8] = 250
    return scene


class Edge:
    """The streams of one daemon, with a clock that the test turns; `keys` counts them by cause."""

    def __init__(self, encoder, cameras=2, dead_zone=None):
        self.now_s = 0.0
        self.keys = Counter()
        inter = encoder.cut.inter
        if dead_zone is not None:
            inter = msgspec.structs.replace(inter, dead_zone=dead_zone)
        self.streams = FeatureStreams(
            encoder, inter, cameras, self, lambda: self.now_s, random.Random(0).random
        )

    def stream_key(self, form, cause):
        """Count it."""
        assert form == "features"
        self.keys[cause] += 1

    def stream_failed(self, form):
        """No codec here can fail."""
        raise AssertionError(form)


class Server:
    """What one server holds of one stream, and why it lost payloads."""

    def __init__(self, tail):
        self._tail = tail
        self.losses = Counter()
        self.restart()

    def restart(self):
        """Everything is gone."""
        self._streams = {}

    def show(self, payload):
        """The symbols that the tail would get. Raises ReferenceLostError."""
        position = payload.position
        stream = self._streams.get(position.stream_id)
        if stream is None and position.is_key:
            stream = self._streams[position.stream_id] = FeatureStream()
        if stream is None:
            self.losses[Loss.UNKNOWN] += 1
            raise LostError(Loss.UNKNOWN, "not held")
        try:
            return stream.decode(payload.data, position, self._tail)
        except LostError as error:
            self.losses[error.loss] += 1
            raise


def test_a_stream_is_one_key_and_then_changes(encoder, tail):
    """Each payload is coded against the newest that was acknowledged, and is smaller than alone."""
    edge, server = Edge(encoder), Server(tail)
    for number in range(1, 8):
        payload = edge.streams.encode("left", image(number))
        assert (payload.position.number, payload.position.reference) == (number, number - 1)
        server.show(payload)
        edge.streams.acknowledged(payload)
        assert number == 1 or len(payload.data) < len(payload.alone().data)
    assert edge.keys == {KeyCause.FIRST: 1}


def test_without_an_answer_the_reference_stays(encoder, tail):
    """Lost calls cost no key and no bytes: what follows is coded against what was acknowledged last."""
    edge, server = Edge(encoder), Server(tail)
    first = edge.streams.encode("left", image(0))
    server.show(first)
    edge.streams.acknowledged(first)
    for number in range(1, 40):
        payload = edge.streams.encode("left", image(number))
        assert payload.position.reference == 1
        if number % 7 == 0:
            server.show(payload)
    assert edge.keys == {KeyCause.FIRST: 1}


def test_until_the_first_answer_all_go_alone(encoder):
    """And the outlook says that the next one is as large as a key."""
    edge = Edge(encoder)
    first, second = (edge.streams.encode("left", image(number)) for number in range(2))
    assert second.position.is_key
    assert edge.streams.outlook("left").key
    edge.streams.acknowledged(first)
    assert not edge.streams.outlook("left").key
    assert edge.keys == {KeyCause.FIRST: 1}


def test_without_a_dead_zone_the_cloud_sees_what_it_would_see_alone(encoder, tail):
    """Bit for bit, frame after frame."""
    edge, server = Edge(encoder, dead_zone=0.0), Server(tail)
    for number in range(20):
        payload = edge.streams.encode("left", image(number))
        alone = decode_features(encoder.encode(image(number)).data, encoder.cut.elements)
        np.testing.assert_array_equal(server.show(payload).tensors()[0], alone[0])
        edge.streams.acknowledged(payload)


def test_alone_is_what_the_encoder_alone_makes(encoder):
    """The spool gets features that need nothing and say no position."""
    edge = Edge(encoder)
    first = edge.streams.encode("left", image(0))
    edge.streams.acknowledged(first)
    second = edge.streams.encode("left", image(1))
    assert not second.position.is_key
    alone, expected = second.alone(), encoder.encode(image(1))
    assert (alone.data, alone.head_sha256, alone.position) == (expected.data, expected.head_sha256, None)


def test_cameras_have_streams_of_their_own(encoder):
    """What one camera's server answers says nothing about another; beyond the bound the silent one goes."""
    edge = Edge(encoder, cameras=2)
    left, right = (edge.streams.encode(camera, image(0)) for camera in ("left", "right"))
    assert left.position.stream_id != right.position.stream_id
    edge.streams.acknowledged(left)
    assert edge.streams.outlook("right").key
    edge.streams.encode("third", image(0))
    assert edge.streams.outlook("left").key


def test_a_lost_reference_costs_one_key(encoder, tail):
    """After it changes go on; one that is lost soon again waits."""
    edge, server = Edge(encoder), Server(tail)
    for number in range(3):
        payload = edge.streams.encode("left", image(number))
        server.show(payload)
        edge.streams.acknowledged(payload)
    server.restart()
    payload = edge.streams.encode("left", image(3))
    with pytest.raises(LostError):
        server.show(payload)
    edge.streams.lost(payload)
    key, after = edge.streams.encode("left", image(3)), None
    assert key.position.is_key
    server.show(key)
    edge.streams.acknowledged(key)
    after = edge.streams.encode("left", image(4))
    assert after.position.reference == key.position.number
    assert edge.keys == {KeyCause.FIRST: 1, KeyCause.LOST: 1}
    edge.streams.lost(after)
    assert edge.streams.outlook("left") is None
    assert edge.streams.encode("left", image(5)) is None
    edge.now_s += CALM_S
    assert edge.streams.encode("left", image(6)).position.is_key


def test_a_straggler_whose_reference_has_gone_costs_no_key(encoder):
    """What came after it has been answered: the stream is well."""
    edge = Edge(encoder)
    first = edge.streams.encode("left", image(0))
    edge.streams.acknowledged(first)
    straggler = edge.streams.encode("left", image(1))
    newer = edge.streams.encode("left", image(2))
    edge.streams.acknowledged(newer)
    edge.streams.lost(straggler)
    assert edge.streams.encode("left", image(3)).position.reference == newer.position.number


def test_where_no_stream_may_begin_features_go_alone_for_a_minute(encoder):
    """Then the server is asked again."""
    edge = Edge(encoder)
    edge.streams.refused(edge.streams.encode("left", image(0)))
    assert edge.streams.encode("left", image(1)) is None
    edge.now_s += 1.25 * REFUSED_S
    edge.streams.encode("left", image(2))
    assert edge.keys == {KeyCause.FIRST: 1, KeyCause.REFUSED: 1}


def test_no_more_is_kept_than_may_become_a_reference(encoder):
    """Of a link that answers nothing, and of one that answers late: an answer too late is no reference."""
    edge = Edge(encoder)
    payloads = [edge.streams.encode("left", image(number)) for number in range(3 * IN_FLIGHT)]
    (stream,) = edge.streams._streams.all()
    assert len(stream.symbols) <= IN_FLIGHT
    edge.streams.acknowledged(payloads[0])
    assert edge.streams.outlook("left").key
    edge.streams.acknowledged(payloads[-2])
    assert edge.streams.encode("left", image(0)).position.reference == payloads[-2].position.number


class Link:
    """Calls between an edge and a server. Each step takes one of those that were sent."""

    def __init__(self, edge, server):
        self.edge, self.server = edge, server
        self.calls = []
        self.sent = 0

    def send(self, which):
        """A frame is encoded, unless its stream pauses."""
        del which
        if (payload := self.edge.streams.encode("left", image(self.sent))) is not None:
            self.calls.append(payload)
        self.sent += 1

    def answer(self, which):
        """A call arrives and its answer too."""
        if self.calls:
            self.deliver(self.calls.pop(which % len(self.calls)))

    def arrive(self, which):
        """A call arrives, its answer is lost: it will be sent again."""
        if self.calls:
            with suppress(LostError):
                self.server.show(self.calls[which % len(self.calls)])

    def drop(self, which):
        """A call is lost."""
        if self.calls:
            self.calls.pop(which % len(self.calls))

    def restart(self, which):
        """Now and then the server begins anew."""
        if which < 3:
            self.server.restart()

    def wait(self, which):
        """Time passes."""
        self.edge.now_s += 10.0 * which

    def deliver(self, payload):
        """Whether the server could decode it; the edge hears it."""
        try:
            shown = self.server.show(payload)
        except LostError:
            self.edge.streams.lost(payload)
            return False
        assert shown.digest() == payload.position.digest
        self.edge.streams.acknowledged(payload)
        return True


STEPS = (Link.send, Link.send, Link.answer, Link.answer, Link.arrive, Link.drop, Link.restart, Link.wait)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), max_size=60))
def test_whatever_the_link_does_no_wrong_symbols_are_seen(encoder, tail, steps):
    """Calls are lost, repeated and overtaken, answers too, and the server restarts.

    What is decoded is always what the sender has, and once the link is well a frame is answered at the second
    try at the latest.
    """
    edge, server = Edge(encoder), Server(tail)
    link = Link(edge, server)
    for step, which in steps:
        step(link, which)
    edge.now_s += 2 * CALM_S
    tries = [link.deliver(edge.streams.encode("left", image(number))) for number in range(2)]
    assert tries[-1]
    assert not server.losses.keys() & {Loss.DIGEST, Loss.CODEC}
