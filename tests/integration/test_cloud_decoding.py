"""One caller's pictures do not keep another's from being decoded, however large or slow they are."""

import threading
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest

from spillover.cloud.models.loader import OpenedModel, open_entry
from spillover.common.jpeg import MOST_SCANS
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.support.models import colour_classifier
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving, stub_of
from tests.support.slow_jpeg import slow_jpeg

RED, BLUE = (0, 0, 255), (255, 0, 0)
SMALL, LARGE = (64, 48), (640, 480)
FLOOD = 12


class WatchedVision:
    """The adapter of a real model that notes the sides of what is decoded, once `gate` is open."""

    def __init__(self, vision):
        self._vision = vision
        self.manifest, self.decode = vision.manifest, vision.decode
        self.gate, self.reached = threading.Event(), threading.Event()
        self.decoded = []

    def look(self, payload):
        """As it is, with a note."""
        undecoded = self._vision.look(payload)

        def prepare():
            self.decoded.append(undecoded.cost)
            self.reached.set()
            assert undecoded.cost == pixels(SMALL) or self.gate.wait(CALL_S)
            return undecoded.prepare()

        return replace(undecoded, prepare=prepare)


def pixels(sides):
    """Width times height."""
    return sides[0] * sides[1]


def picture(sides):
    """A request with a picture of these sides."""
    return request_for(jpeg_of(RED, *sides))


@contextmanager
def watched(repository, workers):
    """A server whose large pictures take until the gate is open: its vision, stubs of two callers, itself."""
    colour_classifier(repository)
    made = []

    def open_model(entry, load_spec):
        opened = open_entry(entry, load_spec)
        made.append(WatchedVision(opened.vision))
        return OpenedModel(opened.executor, made[0])

    config = cloud_config(repository, executor={"workers": workers})
    with serving(config, open_model) as server, stub_of(server) as flooding, caller(server) as stub:
        try:
            yield made[0], flooding, stub, server
        finally:
            made[0].gate.set()


@contextmanager
def caller(server):
    """A client with a connection of its own, so that it is another caller than the others."""
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield pb_grpc.SpilloverStub(channel)


def flood(stub):
    """Large pictures of one caller, all at once."""
    return [stub.Infer.future(picture(LARGE), timeout=CALL_S) for _ in range(FLOOD)]


def value(server, name, **labels):
    """A metric's value, 0 where nothing was counted."""
    return server.metrics.registry.get_sample_value(name, labels) or 0


def wait_for(server, name, wanted, **labels):
    """Until a metric has this value."""
    for _ in range(int(CALL_S * 100)):
        if value(server, name, **labels) == wanted:
            return
        threading.Event().wait(0.01)
    pytest.fail(f"{name} is {value(server, name, **labels)}, not {wanted}")


def test_a_picture_waits_for_one_of_a_flood_at_most(tmp_path):
    """With a single decode thread: the one that runs; of all that wait of the flood, none comes before."""
    with watched(tmp_path, workers=1) as (vision, flooding, stub, server):
        large = flood(flooding)
        wait_for(server, "spillover_decode_waiting", FLOOD - 1)
        good = stub.Infer.future(picture(SMALL), timeout=CALL_S)
        wait_for(server, "spillover_decode_waiting", FLOOD)
        vision.gate.set()
        assert good.result(CALL_S).frame_id == "f1"
        assert all(call.result(CALL_S) for call in large)
    assert vision.decoded == [pixels(LARGE), pixels(SMALL)] + [pixels(LARGE)] * (FLOOD - 1)


def test_a_flood_holds_half_of_the_threads(tmp_path):
    """With two decode threads another caller is answered while the flood's first picture is under way."""
    with watched(tmp_path, workers=2) as (vision, flooding, stub, server):
        large = flood(flooding)
        wait_for(server, "spillover_decode_waiting", FLOOD - 1)
        for _ in range(3):
            assert stub.Infer(picture(SMALL), timeout=CALL_S).frame_id == "f1"
        assert vision.decoded == [pixels(LARGE)] + [pixels(SMALL)] * 3
        vision.gate.set()
        assert all(call.result(CALL_S) for call in large)


def test_what_a_client_gave_up_is_never_decoded(tmp_path):
    """Cancelled calls leave the queue at once, and are counted."""
    with watched(tmp_path, workers=1) as (vision, flooding, stub, server):
        large = flood(flooding)
        wait_for(server, "spillover_decode_waiting", FLOOD - 1)
        for call in large[1:]:
            call.cancel()
        wait_for(server, "spillover_decode_waiting", 0)
        vision.gate.set()
        wait_for(server, "spillover_decode_skipped_total", FLOOD - 1, reason="cancelled")
        assert stub.Infer(picture(SMALL), timeout=CALL_S).frame_id == "f1"
    assert pixels(SMALL) in vision.decoded
    assert len(vision.decoded) == 2


@pytest.mark.parametrize(
    ("scans", "status"),
    [(MOST_SCANS - 1, grpc.StatusCode.OK), (8000, grpc.StatusCode.INVALID_ARGUMENT)],
)
def test_pictures_made_to_be_slow_stop_nobody(tmp_path, scans, status):
    """With more scans than are allowed they are refused, with fewer answered, and others meanwhile."""
    colour_classifier(tmp_path)
    config = cloud_config(tmp_path, executor={"workers": 2})
    with serving(config) as server, stub_of(server) as flooding, caller(server) as stub:
        bomb = request_for(slow_jpeg(scans))
        bombs = [flooding.Infer.future(bomb, timeout=CALL_S) for _ in range(4)]
        assert stub.Infer(picture(SMALL), timeout=CALL_S).frame_id == "f1"
        assert {call.code() for call in bombs} == {status}


def test_a_camera_s_largest_picture_is_the_default_limit(tmp_path):
    """25 million pixels; one with more is refused by its header."""
    colour_classifier(tmp_path)
    with serving(cloud_config(tmp_path)) as server, stub_of(server) as stub:
        with pytest.raises(grpc.RpcError) as refused:
            stub.Infer(request_for(jpeg_of(BLUE, 5001, 5000)), timeout=CALL_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert stub.Infer(request_for(jpeg_of(BLUE, 5000, 5000)), timeout=CALL_S).frame_id == "f1"
