"""A stream of features on the server: what it can decode, what it keeps, and what it cannot be made to do."""

from contextlib import suppress
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from spillover.cloud.models.tails import TailAdapter
from spillover.cloud.serving.admission import Call
from spillover.cloud.serving.streams.features import NEWEST, REFERENCES, FeatureStream
from spillover.cloud.serving.streams.losses import Loss, LostError
from spillover.cloud.serving.streams.streams import Streams
from spillover.cloud.serving.streams.table import Refusal, RefusedError
from spillover.cloud.telemetry.metrics import Metrics
from spillover.common.coding import StreamPosition
from spillover.common.errors import InvalidInputError
from spillover.common.features.codec import encode_symbols
from spillover.common.features.quantized import quantize_features
from spillover.common.features.quantizer import Quantizer
from spillover.common.model.session import Model
from spillover.common.model.split import Cut, Seam
from spillover.common.wire.conversion import Features
from tests.support.models import colour_classifier

SHAPE = (4, 6, 6)
QUANTIZER = Quantizer(levels=9, low=-2, high=2)
CUT = Cut(
    name="cut",
    seams=(Seam(tensor="t", shape=SHAPE, quantizer=QUANTIZER),),
    head_sha256="0" * 64,
    tail_sha256="1" * 64,
    feature_bytes=100,
    fidelity=1,
)
ANN, BOB = (Call(name, name, is_proven=True) for name in ("ann", "bob"))


@pytest.fixture(scope="module")
def tail(tmp_path_factory):
    """The adapter of a tail."""
    return TailAdapter(Model.load(colour_classifier(tmp_path_factory.mktemp("models"))), CUT)


class Sender:
    """Features that drift, numbered from 1; each can be coded against any other."""

    def __init__(self, count=30, quantizer=QUANTIZER):
        random = np.random.default_rng(0)
        values = random.normal(size=SHAPE)
        self.sent = [None]
        for _ in range(count):
            values = values + (random.uniform(size=SHAPE) < 0.1) * random.normal(size=SHAPE)
            self.sent.append(quantize_features([values.astype(np.float32)], [quantizer]))

    def payload(self, number, reference=0, **changed):
        """Data and position."""
        quantized = self.sent[number]
        position = StreamPosition(b"streamid", number, reference, quantized.digest())
        return encode_symbols(quantized, self.sent[reference]), replace(position, **changed)


def loss(stream, tail, data, position):
    """Why it is lost."""
    with pytest.raises(LostError) as error:
        stream.decode(data, position, tail)
    return error.value.loss


def test_symbols_are_those_of_the_sender(tail):
    """A key, then changes against it, then against what followed."""
    sender, stream = Sender(), FeatureStream()
    for number, reference in ((1, 0), (2, 1), (3, 1), (4, 3), (9, 4)):
        got = stream.decode(*sender.payload(number, reference), tail)
        np.testing.assert_array_equal(got.symbols[0], sender.sent[number].symbols[0])


def test_lost_and_overtaken_calls_cost_nothing(tail):
    """Any symbols that came are a reference, in whatever order they came."""
    sender, stream = Sender(), FeatureStream()
    for number, reference in ((1, 0), (5, 1), (3, 1), (4, 1), (6, 3), (2, 1), (7, 5)):
        stream.decode(*sender.payload(number, reference), tail)


def test_what_is_not_held_needs_a_key(tail):
    """A number that never came, or has left the ring; a key goes on."""
    sender, stream = Sender(), FeatureStream()
    stream.decode(*sender.payload(1), tail)
    assert loss(stream, tail, *sender.payload(3, 2)) is Loss.GAP
    for number in range(2, NEWEST + 3):
        stream.decode(*sender.payload(number), tail)
    assert loss(stream, tail, *sender.payload(20, 1)) is Loss.GAP
    stream.decode(*sender.payload(21), tail)


def test_a_reference_stays_however_much_is_coded_against_it(tail):
    """While no answer reaches the edge it has nothing newer."""
    sender, stream = Sender(), FeatureStream()
    stream.decode(*sender.payload(1), tail)
    for number in range(2, 30):
        stream.decode(*sender.payload(number, 1), tail)


def test_a_repeated_call_is_answered_after_its_reference_has_gone(tail):
    """By its number and digest; with another digest it is not that call."""
    sender, stream = Sender(), FeatureStream()
    stream.decode(*sender.payload(1), tail)
    for number in range(2, NEWEST + REFERENCES + 2):
        stream.decode(*sender.payload(number, number - 1), tail)
    last = NEWEST + REFERENCES + 1
    again = stream.decode(*sender.payload(last, 1), tail)
    assert again.digest() == sender.sent[last].digest()
    assert loss(stream, tail, *sender.payload(last, 1, digest=1)) is Loss.GAP


def test_no_more_is_kept_than_is_charged(tail):
    """Whatever numbers and references a caller makes up."""
    sender, stream, random = Sender(), FeatureStream(), np.random.default_rng(1)
    for _ in range(300):
        number = int(random.integers(1, 31))
        reference = int(random.integers(0, number))
        with suppress(LostError):
            stream.decode(*sender.payload(number, reference), tail)
        assert len(stream._symbols) <= NEWEST + REFERENCES
    assert FeatureStream.bytes_of(tail) >= (NEWEST + REFERENCES) * CUT.elements


@pytest.mark.parametrize("wrong", ["digest", "data"])
def test_after_symbols_that_are_not_the_senders_nothing_is_held(tail, wrong):
    """A wrong answer is worse than a key."""
    sender, stream = Sender(), FeatureStream()
    stream.decode(*sender.payload(1), tail)
    data, position = sender.payload(2, 1)
    if wrong == "digest":
        assert loss(stream, tail, data, replace(position, digest=1)) is Loss.DIGEST
    else:
        assert loss(stream, tail, data[:-1], position) is Loss.CODEC
    assert loss(stream, tail, data, position) is Loss.GAP


def test_a_damaged_key_is_the_senders_fault(tail):
    """No other key would do better; of features of another cut likewise."""
    sender, stream = Sender(), FeatureStream()
    data, position = sender.payload(1)
    with pytest.raises(InvalidInputError, match="checksum"):
        stream.decode(data[:-1], position, tail)
    other = quantize_features([np.zeros((2, 2, 2), np.float32)], [QUANTIZER])
    with pytest.raises(InvalidInputError, match="not those of cut cut"):
        stream.decode(encode_symbols(other), replace(position, digest=other.digest()), tail)


class World:
    """Streams with room for so many of this cut, and what they counted."""

    def __init__(self, tail, room):
        self.tail = tail
        self.metrics = Metrics()
        self.streams = Streams(
            room * FeatureStream.bytes_of(tail), False, self.metrics.of_streams(), lambda: 0.0
        )

    def show(self, payload, call=ANN, **changed):
        """The tail's input."""
        data, position = payload
        features = Features(CUT.head_sha256, data, replace(position, **changed) if changed else position)
        with self.streams.looking_at_features(features, call, self.tail) as undecoded:
            assert undecoded.measure() == undecoded.cost == CUT.elements
            ((tensor,), _) = undecoded.prepare()
            return tensor

    def value(self, name, **labels):
        """A metric."""
        return self.metrics.registry.get_sample_value(f"spillover_{name}", labels)


def test_streams_of_features_need_no_codec_and_are_charged(tail):
    """Bytes are those of the symbols that may be kept; each is its caller's own."""
    sender, world = Sender(), World(tail, 8)
    shown = world.show(sender.payload(1))
    np.testing.assert_array_equal(shown, sender.sent[1].tensors()[0][None])
    world.show(sender.payload(2, 1))
    assert world.value("stream_bytes") == FeatureStream.bytes_of(tail)
    with pytest.raises(LostError) as error:
        world.show(sender.payload(3, 2), BOB)
    assert error.value.loss is Loss.UNKNOWN
    assert world.value("stream_lost_total", reason="unknown") == 1


def test_features_of_another_cut_do_not_come_into_a_stream(tail, tmp_path):
    """A stream that is charged for a small cut would hold the symbols of a large one."""
    world, sender, shape = World(tail, 8), Sender(), (16, 24, 24)
    world.show(sender.payload(1))
    seam = Seam(tensor="t", shape=shape, quantizer=QUANTIZER)
    cut = msgspec.structs.replace(CUT, seams=(seam,), head_sha256="2" * 64)
    large = TailAdapter(Model.load(colour_classifier(tmp_path)), cut)
    alone = quantize_features([np.ones(shape, np.float32)], [QUANTIZER])
    position = StreamPosition(b"streamid", 2, 1, alone.digest())
    features = Features(cut.head_sha256, encode_symbols(alone), position)
    with (
        pytest.raises(LostError) as error,
        world.streams.looking_at_features(features, ANN, large) as undecoded,
    ):
        undecoded.prepare()
    assert error.value.loss is Loss.UNKNOWN
    world.show(sender.payload(2, 1))  # what was there still is


def test_without_room_the_refusal_says_so(tail):
    """A quarter is one caller's; the fourth part of three streams holds none."""
    sender, world = Sender(), World(tail, 3)
    with pytest.raises(RefusedError) as error:
        world.show(sender.payload(1))
    assert error.value.reason is Refusal.SHARE
    assert "a quarter of limits.stream_bytes" in str(error.value)  # of which the caller has nothing yet


def test_features_in_no_stream_are_answered_without_room(tail):
    """They neither have a reference nor become one."""
    data, _ = Sender().payload(1)
    world = World(tail, 0)
    with world.streams.looking_at_features(Features(CUT.head_sha256, data), ANN, tail) as undecoded:
        undecoded.prepare()
    assert world.value("stream_bytes") == 0
