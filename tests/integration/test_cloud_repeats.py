"""A repeated request is answered from memory; a new one is not."""

import pytest

from spillover.cloud.serving.reply_cache import ReplyCache
from spillover.common.types import ModelId
from spillover.common.wire.conversion import InferenceReply, ServerTimings
from tests.support.edge_values import classification
from tests.support.models import colour_classifier
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of

RED, GREEN = (0, 0, 255), (0, 255, 0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a tiny classifier."""
    repository = tmp_path_factory.mktemp("repository")
    colour_classifier(repository)
    with serving(cloud_config(repository)) as server:
        yield server


@pytest.fixture(scope="module")
def stub(server):
    """Its client."""
    with stub_of(server) as stub:
        yield stub


def _infer(stub, jpeg, **fields):
    return stub.Infer(request_for(jpeg, device_id="dev", **fields), timeout=CALL_S)


def test_the_same_device_boot_and_number_is_answered_from_memory(stub):
    """The repeated answer is the first one to the last byte, its times included: nothing ran again."""
    first = _infer(stub, jpeg_of(RED), boot_id="b", sequence=7)
    assert _infer(stub, jpeg_of(RED), boot_id="b", sequence=7) == first


def test_repeats_are_counted(server, stub):
    """The metrics say how many requests were answered from memory."""
    before = server.metrics.registry.get_sample_value("spillover_repeated_total")
    for _ in range(3):
        _infer(stub, jpeg_of(RED), boot_id="counted", sequence=1)
    assert server.metrics.registry.get_sample_value("spillover_repeated_total") == before + 2


@pytest.mark.parametrize("fields", [{"boot_id": "b", "sequence": 8}, {"boot_id": "c", "sequence": 7}])
def test_another_number_or_boot_is_new(stub, fields):
    """The same picture under another number, or from another run of the edge, is worked on."""
    first = _infer(stub, jpeg_of(RED), boot_id="b", sequence=7)
    assert _infer(stub, jpeg_of(RED), **fields).timings != first.timings


def test_another_picture_under_the_same_number_is_not_confused(stub):
    """A device that uses a number twice gets the answer to what it sent."""
    _infer(stub, jpeg_of(RED), boot_id="b", sequence=9)
    assert _infer(stub, jpeg_of(GREEN), boot_id="b", sequence=9).classification.class_id[0] == 1


def test_without_a_boot_id_nothing_is_remembered(stub):
    """A client that does not number its requests is answered anew each time."""
    first = _infer(stub, jpeg_of(RED))
    assert _infer(stub, jpeg_of(RED)).timings != first.timings


def test_memory_is_bounded_and_forgets_the_longest_unused():
    """Beyond its capacity the frame that was asked for longest ago goes, and of a frame the oldest reply."""
    answered = ReplyCache(2)
    reply = InferenceReply("f", ModelId("m", "1"), classification(1.0), ServerTimings())
    keys = [("dev", "b", "c", number, "m@1") for number in range(3)]
    answered.remember(keys[0], 7, reply)
    answered.remember(keys[1], 7, reply)
    assert answered.get(keys[0], 7) is reply
    assert answered.get(keys[0], 8) is None
    answered.remember(keys[2], 7, reply)
    assert [answered.knows(key) for key in keys] == [True, False, True]
    for checksum in range(100):
        answered.remember(keys[2], checksum, reply)
    known = [checksum for checksum in range(100) if answered.get(keys[2], checksum)]
    assert known == [96, 97, 98, 99]
