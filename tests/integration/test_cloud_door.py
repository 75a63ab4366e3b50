"""The door of the server: what is judged before a message is read, and what becomes of odd calls."""

import grpc
import pytest

from spillover.common.security.tokens import add_token
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import open_inference_pb2_grpc as oip_grpc
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.common.wire.pb import spillover_pb2_grpc as pb_grpc
from tests.attack.wire import Connection, pump
from tests.support.h2 import framed
from tests.support.models import colour_classifier, identity
from tests.support.pki import Pki, bearer, secure_channel
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving

OIP = "/inference.GRPCInferenceService/"
INFER, CHECK = "/spillover.v1.Spillover/Infer", "/grpc.health.v1.Health/Check"
ONE_ROW = oip_pb.ModelInferRequest(
    model_name="identity",
    inputs=[oip_pb.ModelInferRequest.InferInputTensor(name="INPUT0", datatype="FP32", shape=[1, 4])],
    raw_input_contents=[bytes(16)],
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A model for pictures and one for tensors."""
    folder = tmp_path_factory.mktemp("repository")
    colour_classifier(folder)
    identity(folder)
    return folder


@pytest.fixture(scope="module")
def server(repository):
    """A plain server that does not wait long."""
    models = {"repository": str(repository), "default": "colour"}
    limits = {"body_timeout_s": 0.5}
    with serving(cloud_config(repository, models=models, limits=limits)) as running:
        yield running


@pytest.fixture
def raw(server):
    """A raw connection to it."""
    connection = Connection(_where(server))
    pump([connection], lambda: connection.settled, CALL_S)
    yield connection
    connection.close()


def _where(server):
    host, _, port = server.address.rpartition(":")
    return host, int(port)


def status(connection, stream):
    """How the call ends."""
    pump([connection], lambda: bool(stream.status), CALL_S)
    return stream.status


def test_a_call_without_a_message_is_told_so(raw):
    """Headers and the end at once: a status, where others wait for ever."""
    assert status(raw, raw.open(INFER, end=True)) == "INVALID_ARGUMENT"


def test_a_message_that_is_cut_short_is_no_message(raw):
    """The length promises more than comes before the end."""
    stream = raw.open(INFER)
    raw.data(stream, framed(bytes(100))[:50], end=True)
    assert status(raw, stream) == "INVALID_ARGUMENT"


def test_of_two_messages_the_first_is_answered(raw):
    """A call with one answer has one message; what follows is not read, and a status comes."""
    stream = raw.open(INFER)
    message = framed(request_for(jpeg_of((0, 0, 255))).SerializeToString())
    raw.data(stream, message + message, end=True)
    assert status(raw, stream) == "OK"


def test_a_message_that_does_not_come_ends_its_call(raw):
    """After `body_timeout_s` the call has a status, whatever the caller wants."""
    stream = raw.open(INFER)
    raw.data(stream, framed(bytes(100))[:50])
    assert status(raw, stream) == "DEADLINE_EXCEEDED"


def test_an_open_method_takes_a_few_bytes(raw):
    """A name of a service is all that one carries; more is RESOURCE_EXHAUSTED."""
    assert status(raw, raw.call(CHECK, b"")) == "OK"
    assert status(raw, raw.call(CHECK, bytes(5000))) == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady"])
def test_the_simplest_questions_are_answered_without_their_message(raw, method):
    """Headers are enough: the message would be empty."""
    assert status(raw, raw.open(OIP + method)) == "OK"


@pytest.mark.parametrize("after", [[], [ONE_ROW.SerializeToString()]])
def test_a_malformed_message_on_a_stream_always_has_its_status(server, after):
    """After a good one whose answer may be on its way: 30 times of 30, and the good one is answered."""
    good = ONE_ROW.SerializeToString()
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(OIP + "ModelStreamInfer")
        for _ in range(30):
            answers = []
            with pytest.raises(grpc.RpcError) as ended:
                answers.extend(call(iter([good, b"\xff\xff", *after]), timeout=CALL_S))
            assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("field", ["inputs", "outputs", "parameters", "raw_input_contents"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_request_has_a_bounded_number_of_tensors(server, field, size):
    """More than 256 are refused by their number, before anything is done about them."""
    request = oip_pb.ModelInferRequest()
    request.CopyFrom(ONE_ROW)
    for number in range(300):
        match field:
            case "inputs":
                request.inputs.add(name=f"{number}")
            case "outputs":
                request.outputs.add(name=f"{number}")
            case "parameters":
                request.parameters[f"{number}"].bool_param = True
            case _:
                request.raw_input_contents.append(b"")
    if size == "large":
        request.raw_input_contents.append(bytes(100_000))
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as refused:
        oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "256" in refused.value.details()


@pytest.mark.parametrize("field", ["model_name", "model_version", "id"])
def test_names_have_a_bounded_length(server, field):
    """257 characters are too many for a name or an id."""
    request = oip_pb.ModelInferRequest()
    request.CopyFrom(ONE_ROW)
    setattr(request, field, "x" * 257)
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as refused:
        oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "the limit is 256" in refused.value.details()


def test_invented_names_give_no_more_of_the_rate(repository):
    """Callers who prove nothing have one bucket for each connection, whatever they call themselves."""
    limits = {"device_rate_per_s": 0.001, "device_burst": 3}
    with serving(cloud_config(repository, models={"repository": str(repository)}, limits=limits)) as server:
        for _ in range(2):
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(server.address, options) as channel:
                infer = pb_grpc.SpilloverStub(channel).Infer
                codes = []
                for number in range(5):
                    request = request_for(jpeg_of((0, 0, 255)), "colour", device_id=f"invented-{number}")
                    metadata = (("spillover-device", f"invented-{number}"),)
                    codes.append(
                        infer.with_call(request, timeout=CALL_S, metadata=metadata)[1].code()
                        if number < 3
                        else _code(infer, request, metadata)
                    )
            assert codes == [grpc.StatusCode.OK] * 3 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2


def _code(call, request, metadata=()):
    with pytest.raises(grpc.RpcError) as refused:
        call(request, timeout=CALL_S, metadata=metadata)
    return refused.value.code()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Two devices with certificates."""
    pki = Pki(tmp_path_factory.mktemp("pki"))
    for name in ("camera-1", "camera-2"):
        pki.issue(name)
    return pki


@pytest.fixture(scope="module", params=["tokens", "certificates"])
def guarded(request, tmp_path_factory, repository, pki):
    """A server that knows its callers, and who `camera-1` is to it."""
    models = {"repository": str(repository), "default": "colour"}
    if request.param == "certificates":
        security = {"tls": pki.server_tls(mutual=True)}
        known = pki.credentials("camera-1"), ()
    else:
        tokens = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
        security = {"tls": pki.server_tls(mutual=False), "tokens_file": str(tokens)}
        known = pki.credentials(), bearer(add_token(tokens, "camera-1", "device", None))
    with serving(cloud_config(repository, models=models, security=security)) as server:
        yield server, *known


def test_a_device_may_not_name_another_in_its_headers(guarded):
    """The name is compared with the proof before the message comes, which it never does here."""
    server, credentials, metadata = guarded
    with secure_channel(server, credentials) as channel:
        infer = pb_grpc.SpilloverStub(channel).Infer
        named = (*metadata, ("spillover-device", "camera-1"))
        assert infer(request_for(jpeg_of((0, 0, 255))), timeout=CALL_S, metadata=named).frame_id == "f1"
        other = (*metadata, ("spillover-device", "camera-2"))
        assert _code(infer, pb.InferRequest(), other) is grpc.StatusCode.PERMISSION_DENIED


def test_both_kinds_of_proof_have_the_same_answers(guarded):
    """Methods that are not there, and those of another role, whatever proves the caller."""
    server, credentials, metadata = guarded
    with secure_channel(server, credentials) as channel:
        unknown = channel.unary_unary("/spillover.v1.Spillover/Secret")
        assert _code(unknown, b"", metadata) is grpc.StatusCode.UNIMPLEMENTED
        control = oip_grpc.GRPCInferenceServiceStub(channel).RepositoryIndex
        assert _code(control, oip_pb.RepositoryIndexRequest(), metadata) is grpc.StatusCode.PERMISSION_DENIED
