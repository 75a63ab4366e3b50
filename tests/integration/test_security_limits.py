"""Limits against callers who mean harm or are merely broken; each is shown on a real connection."""

from contextlib import ExitStack, contextmanager
from queue import SimpleQueue

import grpc
import pytest
from onnx import TensorProto

from spillover.common.net.addresses import split_host_port
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.attack.wire import Connection, pump
from tests.support.h2 import (
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    PING,
    PREFACE,
    SETTINGS,
    call,
    frame,
    frames,
    raw_connection,
    setting,
    settings,
)
from tests.support.models import colour_classifier, identity
from tests.support.serving import CALL_S, cloud_config, eventually, jpeg_of, request_for, serving, stub_of

RED = (0, 0, 255)
HELLO = PREFACE + frame(SETTINGS)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """One model."""
    folder = tmp_path_factory.mktemp("repository")
    colour_classifier(folder)
    return folder


def limited(repository, **limits):
    """A server with these limits."""
    return serving(cloud_config(repository, limits=limits))


@contextmanager
def wire(server, **options):
    """A connection on which anything may be sent."""
    connection = Connection(split_host_port(server.address), **options)
    try:
        yield connection
    finally:
        connection.close()


def still_serves(server):
    """Another client is answered."""
    with stub_of(server) as stub:
        return stub.Infer(request_for(jpeg_of(RED)), timeout=CALL_S).frame_id == "f1"


def test_one_who_says_nothing_is_shown_the_door(repository):
    """A connection without an HTTP/2 handshake is closed by the server after `handshake_timeout_s`."""
    with limited(repository, handshake_timeout_s=0.3) as server, raw_connection(server) as silent:
        assert [kind for kind, _ in frames(silent)][-1] == GOAWAY
        assert still_serves(server)


def test_one_who_talks_no_http2_is_shown_the_door(repository):
    """Bytes of another protocol end their connection and nothing else."""
    with limited(repository) as server, raw_connection(server) as confused:
        confused.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        list(frames(confused))
        assert still_serves(server)


def test_streams_of_one_connection_are_limited(repository):
    """The server announces `max_streams` in its first frame; HTTP/2 clients hold to it or are refused."""
    with limited(repository, max_streams=7) as server, raw_connection(server) as connection:
        connection.sendall(HELLO)
        kind, payload = next(frames(connection))
        assert kind == SETTINGS
        assert settings(payload)[MAX_CONCURRENT_STREAMS] == 7


def test_connections_are_limited(repository):
    """Beyond `max_connections` the oldest that has shown nothing is closed; a device's new one is served."""
    with (
        limited(repository, max_connections=3, max_connections_per_address=9) as server,
        ExitStack() as stack,
    ):
        held = [stack.enter_context(raw_connection(server)) for _ in range(3)]
        for connection in held:
            connection.sendall(HELLO)
            assert next(frames(connection))[0] == SETTINGS
        assert eventually(lambda: server.connections.by_standing()["stranger"] == 3)
        with stub_of(server) as stub:
            assert stub.Infer(request_for(jpeg_of(RED)), timeout=CALL_S).frame_id == "f1"
            list(frames(held[0]))  # until it is closed
            for connection in held[1:]:
                connection.sendall(frame(PING, bytes(8)))
                assert PING in (kind for kind, _ in frames(connection))
            assert stub.Infer(request_for(jpeg_of(RED)), timeout=CALL_S).frame_id == "f1"


def test_one_who_pings_without_end_is_sent_away(repository):
    """More pings than allowed end the connection with ENHANCE_YOUR_CALM."""
    with limited(repository) as server, raw_connection(server) as connection:
        connection.sendall(HELLO + frame(PING, bytes(8)) * 6)
        last = [payload for kind, payload in frames(connection) if kind == GOAWAY][-1]
        assert int.from_bytes(last[4:8], "big") == ENHANCE_YOUR_CALM
        assert still_serves(server)


def test_a_message_that_drips_is_cut_off(repository):
    """A call whose message never comes ends by the age of its connection, whatever the caller wants."""
    ages = {"max_connection_age_s": 0.2, "max_connection_age_grace_s": 0.2}
    messages = SimpleQueue()
    with limited(repository, **ages) as server, grpc.insecure_channel(server.address) as channel:
        infer = channel.stream_stream("/spillover.v1.Spillover/Infer", pb.InferRequest.SerializeToString)
        try:
            with pytest.raises(grpc.RpcError) as ended:
                list(infer(iter(messages.get, None), timeout=CALL_S))
        finally:
            messages.put(None)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert still_serves(server)


def test_a_watcher_that_does_not_read_cannot_keep_the_server_from_stopping(repository):
    """Anybody may watch the health; one whose window is shut holds up the end no longer than calls may."""
    hello = PREFACE + frame(SETTINGS, setting(INITIAL_WINDOW_SIZE, 0))
    with ExitStack() as stack:
        with serving(cloud_config(repository, stop_timeout_s=2.0)) as server:
            connection = stack.enter_context(raw_connection(server))
            connection.sendall(hello + call("/grpc.health.v1.Health/Watch", b""))
            assert HEADERS in (kind for kind, _ in frames(connection))  # it writes, and waits for us to read
        with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as gone:
            pb_grpc.SpilloverStub(channel).ListModels(pb.ListModelsRequest(), timeout=CALL_S)
        assert gone.value.code() is grpc.StatusCode.UNAVAILABLE


def test_calls_survive_the_end_of_their_connection(repository):
    """A client whose connections end by age all the time has no failed call: it connects again."""
    with limited(repository, max_connection_age_s=0.05) as server, stub_of(server) as stub:
        for _ in range(1000):
            assert stub.ListModels(pb.ListModelsRequest(), timeout=CALL_S).models


def test_a_message_over_the_limit_is_refused_unread(repository):
    """The length prefix is enough: RESOURCE_EXHAUSTED, and the next call is answered."""
    with limited(repository, max_message_bytes=10_000) as server, stub_of(server) as stub:
        with pytest.raises(grpc.RpcError) as refused:
            stub.Infer(request_for(bytes(20_000)), timeout=CALL_S)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stub.Infer(request_for(jpeg_of(RED)), timeout=CALL_S).frame_id == "f1"


@pytest.mark.parametrize(("size", "status"), [(7_000, "OK"), (9_000, "RESOURCE_EXHAUSTED")])
def test_headers_over_the_limit_are_refused(repository, size, status):
    """8 KiB of metadata and no more, whatever chance says and whether or not the client holds to it."""
    with limited(repository) as server, wire(server) as connection:
        assert pump([connection], lambda: connection.settled, CALL_S)
        for _ in range(5):
            stream = connection.call("/spillover.v1.Spillover/ListModels", b"", [("x", "y" * size)])
            assert pump([connection], lambda stream=stream: bool(stream.status), CALL_S)
            assert stream.status == status
        assert still_serves(server)


def test_one_who_never_acknowledges_the_settings_is_shown_the_door(repository):
    """Limits that the server announces hold for those who have read them; who does not is cut off."""
    with limited(repository, handshake_timeout_s=0.3) as server, wire(server, acks=False) as connection:
        assert pump([connection], lambda: bool(connection.ending), CALL_S)
        assert connection.ending == "GOAWAY_SETTINGS_TIMEOUT"
        assert still_serves(server)


def tensor_request(model, datatype, shape, **contents):
    """A request for a network itself."""
    tensor = oip_pb.ModelInferRequest.InferInputTensor(name="INPUT0", datatype=datatype, shape=shape)
    return oip_pb.ModelInferRequest(model_name=model, inputs=[tensor], **contents)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (tensor_request("identity", "FP32", [100, 4], raw_input_contents=[bytes(1600)]), "limit is 256"),
        (tensor_request("identity", "FP32", [2**40, 2**40]), "limit is 256"),
        (tensor_request("strings", "BYTES", [20, 4], raw_input_contents=[bytes(320)]), "limit is 64"),
        (tensor_request("strings", "BYTES", [1, 4], raw_input_contents=[bytes(100_000)]), "more than the 4"),
        (tensor_request("identity", "FP32", [20, 4]), "limit is 64"),
    ],
)
def test_elements_of_tensors_are_limited(repository, request_, says):
    """Too many elements, by shape or by bytes, are refused before they are unpacked; the next is answered."""
    identity(repository)
    identity(repository, "strings", element=TensorProto.STRING)
    limits = {"max_tensor_elements": 256, "max_unpacked_elements": 64}
    with limited(repository, **limits) as server, grpc.insecure_channel(server.address) as channel:
        infer = oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        with pytest.raises(grpc.RpcError) as refused:
            infer(request_, timeout=CALL_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert says in refused.value.details()
        fits = tensor_request("identity", "FP32", [50, 4], raw_input_contents=[bytes(800)])
        assert infer(fits, timeout=CALL_S).outputs[0].shape == [50, 4]
