"""Features as changes over real gRPC: answers are those of features alone, and what is lost costs one key."""

import random
from collections import Counter

import grpc
import msgspec
import numpy as np
import pytest

from spillover.common.wire.conversion import Features, InferenceRequest, reply_from_pb, request_to_pb
from spillover.edge.payload.feature_streams import FeatureStreams
from spillover.edge.payload.features import FeatureEncoder
from spillover.edge.payload.streams import KeyCause
from tests.support.serving import CALL_S, cloud_config, serving, stub_of
from tests.support.splitting import residual_classifier, split_classifier

FRAMES = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A split model in a repository."""
    folder = residual_classifier(tmp_path_factory.mktemp("repository"))
    split_classifier(folder)
    return folder


class Edge:
    """The real head and the streams of one camera; `keys` counts them by cause."""

    def __init__(self, folder, dead_zone):
        self.encoder = FeatureEncoder(folder, "sum")
        inter = msgspec.structs.replace(self.encoder.cut.inter, dead_zone=dead_zone)
        self.keys = Counter()
        self.streams = FeatureStreams(self.encoder, inter, 1, self, draw=random.Random(0).random)

    def stream_key(self, form, cause):
        """Count it."""
        del form
        self.keys[cause] += 1

    def stream_failed(self, form):
        """No codec here can fail."""
        raise AssertionError(form)

    def ask(self, stub, number):
        """Send a frame in its stream; the answer, and whether it went as changes."""
        payload = self.streams.encode("camera", image(number))
        try:
            reply = answer(stub, payload)
        except grpc.RpcError:
            self.streams.lost(payload)
            raise
        self.streams.acknowledged(payload)
        return reply, not payload.position.is_key


def answer(stub, payload):
    """The prediction for encoded features."""
    features = Features(payload.head_sha256, payload.data, payload.position)
    request = request_to_pb(InferenceRequest(features=features, device_id="edge"))
    return reply_from_pb(stub.Infer(request, timeout=CALL_S)).prediction


def image(number):
    """A scene in which a square moves."""
    scene = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    left = number * 3 % 24
    scene[8:16, left : left + 8] = 250
    return scene


def test_without_a_dead_zone_answers_are_bit_for_bit_those_of_features_alone(folder):
    """One key, then changes; classes and probabilities are the same floats."""
    edge = Edge(folder, dead_zone=0.0)
    with serving(cloud_config(folder.parent.parent)) as server, stub_of(server) as stub:
        for number in range(FRAMES):
            against, is_change = edge.ask(stub, number)
            alone = answer(stub, edge.encoder.encode(image(number)))
            assert is_change == (number > 0)
            np.testing.assert_array_equal(against.class_id, alone.class_id)
            np.testing.assert_array_equal(against.probability, alone.probability)
    assert edge.keys == {KeyCause.FIRST: 1}


def test_another_server_costs_one_key(folder):
    """It does not hold the reference and says so; a key is answered, and changes go on from there."""
    edge = Edge(folder, dead_zone=0.9)
    for run in range(2):
        with serving(cloud_config(folder.parent.parent)) as server, stub_of(server) as stub:
            if run:
                with pytest.raises(grpc.RpcError) as lost:
                    edge.ask(stub, 2)
                assert lost.value.code() is grpc.StatusCode.FAILED_PRECONDITION
                assert lost.value.details().startswith("reference:")
            assert [edge.ask(stub, number)[1] for number in range(3)] == [False, True, True]
            held = server.metrics.registry.get_sample_value("spillover_streams", {"state": "idle"})
            assert held == 1
    assert edge.keys == {KeyCause.FIRST: 1, KeyCause.LOST: 1}


def test_a_wrong_digest_is_never_answered(folder):
    """What the server has decoded is not what the sender has: a key is asked for, as nothing is held."""
    edge = Edge(folder, dead_zone=0.9)
    with serving(cloud_config(folder.parent.parent)) as server, stub_of(server) as stub:
        edge.ask(stub, 0)
        payload = edge.streams.encode("camera", image(1))
        features = Features(payload.head_sha256, payload.data, payload.position)
        request = request_to_pb(InferenceRequest(features=features, device_id="edge"))
        request.features.position.digest ^= 1
        for forged in (True, False):
            with pytest.raises(grpc.RpcError) as lost:
                stub.Infer(request, timeout=CALL_S)
            assert lost.value.details().startswith("reference:"), forged
            request.features.position.digest = payload.position.digest


def test_a_server_that_keeps_no_streams_says_so(folder):
    """And answers features that are in none."""
    edge = Edge(folder, dead_zone=0.9)
    config = cloud_config(folder.parent.parent, limits={"stream_bytes": 0})
    with serving(config) as server, stub_of(server) as stub:
        payload = edge.streams.encode("camera", image(0))
        with pytest.raises(grpc.RpcError) as refused:
            answer(stub, payload)
        assert refused.value.details().startswith("stream:")
        answer(stub, payload.alone())
