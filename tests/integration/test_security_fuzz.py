"""Whatever is sent: never a crash, and never UNKNOWN or INTERNAL for what is the sender's fault."""

import zlib

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from spillover.common.features.codec import encode_features
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import head_path, open_split_plan
from spillover.common.wire.pb import open_inference_pb2 as oip_pb
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.lab.split.extract import Half
from tests.support.models import centre_detector, colour_classifier, identity
from tests.support.serving import CALL_S, cloud_config, jpeg_of, request_for, serving
from tests.support.splitting import coloured_pictures, residual_classifier, split_classifier

pytestmark = pytest.mark.slow

OWN, OIP = "/spillover.v1.Spillover/", "/inference.GRPCInferenceService/"
SENDERS_FAULT = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
JPEG = jpeg_of((0, 0, 255))
fuzz = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    """A server with pictures, numbers and strings; at the end it must still answer."""
    repository = tmp_path_factory.mktemp("repository")
    colour_classifier(repository)
    centre_detector(repository)
    identity(repository)
    identity(repository, "strings", element=TensorProto.STRING)
    identity(repository, "halves", element=TensorProto.FLOAT16)
    identity(repository, "switches", element=TensorProto.BOOL)
    config = cloud_config(
        repository,
        models={"repository": str(repository), "default": "colour"},
        limits={"max_message_bytes": 1_000_000, "max_pixels": 100_000},
    )
    with serving(config) as server, grpc.insecure_channel(server.address) as channel:
        yield channel
        infer = channel.unary_unary(
            f"{OWN}Infer", pb.InferRequest.SerializeToString, pb.InferReply.FromString
        )
        assert infer(request_for(JPEG), timeout=CALL_S).classification.class_id[0] == 0


def status(channel, method, data):
    """How a unary call with these bytes ends."""
    try:
        channel.unary_unary(method)(data, timeout=CALL_S)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """A server with a split network, one of its cuts, and good features for that."""
    folder = residual_classifier(tmp_path_factory.mktemp("repository"))
    split_classifier(folder)
    cut = open_split_plan(open_model_folder(folder)).cuts[0]
    head = Half(head_path(folder, cut.name), threads=1)
    image = Model.load(folder, SessionConfig(threads=1)).prepare(coloured_pictures(1)[0].image())[0]
    tensors = [tensor[0] for tensor in head.run([image[None]])]
    data = encode_features(tensors, [seam.quantizer for seam in cut.seams])
    with (
        serving(cloud_config(folder.parent.parent)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        features = pb.Features(head_sha256=bytes.fromhex(cut.head_sha256), data=data)
        request = pb.InferRequest(features=features).SerializeToString()
        assert status(channel, f"{OWN}Infer", request) is grpc.StatusCode.OK
        yield channel, features.head_sha256, data


@st.composite
def mutated(draw, base):
    """`base` with some bytes replaced, removed, inserted or cut off."""
    data = bytearray(base)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["replace", "remove", "insert", "cut"])):
            case "replace" if data:
                data[at] = draw(st.integers(0, 255))
            case "remove":
                del data[at : at + draw(st.integers(1, 8))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del data[at:]
    return bytes(data)


METHODS = [
    *(OWN + method.name for method in pb.DESCRIPTOR.services_by_name["Spillover"].methods),
    *(
        OIP + method.name
        for method in oip_pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
        if not method.client_streaming and not method.name.startswith("RepositoryModel")
    ),
]


@fuzz
@given(method=st.sampled_from(METHODS), data=st.binary(max_size=200))
def test_random_bytes(channel, method, data):
    """Bytes that are no message are INVALID_ARGUMENT at worst, for every unary method."""
    assert status(channel, method, data) in SENDERS_FAULT


@fuzz
@given(data=mutated(request_for(JPEG, device_id="camera-1", time_left_us=1000).SerializeToString()))
def test_mutated_frames(channel, data):
    """A request with damaged bytes: message, header or picture."""
    assert status(channel, f"{OWN}Infer", data) in SENDERS_FAULT


@fuzz
@given(
    jpeg=mutated(JPEG) | st.binary(max_size=300),
    model=st.sampled_from(["", "colour", "centre", "identity", "nobody"]) | st.text(max_size=20),
    version=st.sampled_from(["", "1", "2"]) | st.text(max_size=5),
    numbers=st.tuples(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**32 - 1)),
    names=st.tuples(st.text(max_size=50), st.text(max_size=50)),
    form=st.integers(-3, 3),
)
def test_frames_of_any_content(channel, jpeg, model, version, numbers, names, form):
    """Well-formed messages with any content, damaged pictures in particular."""
    time_left_us, captured_unix_us, max_classes = numbers
    request = pb.InferRequest(
        frame_id=names[0],
        device_id=names[1],
        model=pb.ModelRef(name=model, version=version),
        time_left_us=time_left_us,
        captured_unix_us=captured_unix_us,
        max_classes=max_classes,
        image=pb.EncodedImage(format=form, data=jpeg),
    )
    assert status(channel, f"{OWN}Infer", request.SerializeToString()) in SENDERS_FAULT


@fuzz
@given(choices=st.data(), resealed=st.booleans())
def test_mutated_features(split, choices, resealed):
    """Damaged features, with a checksum that gives them away or one that fits."""
    channel, head_sha256, good = split
    header, body = good[:4], choices.draw(mutated(good[8:]))
    data = header + zlib.crc32(body).to_bytes(4, "little") + body if resealed else good[:8] + body
    request = pb.InferRequest(features=pb.Features(head_sha256=head_sha256, data=data))
    assert status(channel, f"{OWN}Infer", request.SerializeToString()) in SENDERS_FAULT


@fuzz
@given(head_sha256=st.binary(max_size=40), data=st.binary(max_size=40))
def test_features_of_any_content(channel, head_sha256, data):
    """Features of a head that is not served have a status of their own; what is no hash has not even that."""
    request = pb.InferRequest(features=pb.Features(head_sha256=head_sha256, data=data))
    unserved = {grpc.StatusCode.FAILED_PRECONDITION}
    assert status(channel, f"{OWN}Infer", request.SerializeToString()) in SENDERS_FAULT | unserved


MODELS = ["identity", "strings", "halves", "switches", "colour", "centre", "nobody", ""]
DATATYPES = ["FP32", "FP16", "FP64", "BF16", "BYTES", "BOOL", "INT8", "INT64", "UINT8", "UINT64", "", "fp32"]
lengths = st.integers(0, 5) | st.sampled_from([-1, 2**31, 2**62, 2**63 - 1, -(2**63)])
shapes = (
    st.lists(lengths, max_size=5)
    | st.lists(st.just(1), max_size=80)
    | st.sampled_from([[1, 4], [2, 4], [1, 3, 16, 16]])
)
contents = st.builds(
    oip_pb.InferTensorContents,
    bool_contents=st.lists(st.booleans(), max_size=8),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8),
    int64_contents=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8),
    uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=8),
    uint64_contents=st.lists(st.integers(0, 2**64 - 1), max_size=8),
    fp32_contents=st.lists(st.floats(width=32), max_size=8),
    fp64_contents=st.lists(st.floats(), max_size=8),
    bytes_contents=st.lists(st.binary(max_size=8), max_size=8),
)
parameters = st.builds(oip_pb.InferParameter, int64_param=st.integers(-(2**63), 2**63 - 1)) | st.builds(
    oip_pb.InferParameter, string_param=st.text(max_size=5)
)
keys = st.sampled_from(["timeout", "priority", "sequence_id", "shared_memory_region", "classification", "x"])
tensors = st.builds(
    oip_pb.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["INPUT0", "image", "other", ""]),
    datatype=st.sampled_from(DATATYPES),
    shape=shapes,
    parameters=st.dictionaries(keys, parameters, max_size=1),
    contents=contents,
)
raws = st.binary(max_size=40) | st.sampled_from(
    [bytes(16), bytes(32), bytes(8), bytes(3072), b"\1\0\0\0a" * 4]
)
requests = st.builds(
    oip_pb.ModelInferRequest,
    model_name=st.sampled_from(MODELS),
    model_version=st.sampled_from(["", "1", "9"]),
    id=st.text(max_size=10),
    parameters=st.dictionaries(keys, parameters, max_size=2),
    inputs=st.lists(tensors, max_size=3),
    outputs=st.lists(
        st.builds(
            oip_pb.ModelInferRequest.InferRequestedOutputTensor,
            name=st.sampled_from(["OUTPUT0", "logits", "rows", "other"]),
            parameters=st.dictionaries(keys, parameters, max_size=1),
        ),
        max_size=2,
    ),
    raw_input_contents=st.lists(raws, max_size=3),
)


@fuzz
@given(request=requests)
def test_tensors_of_any_content(channel, request):
    """ModelInfer with any names, datatypes, shapes, contents and parameters."""
    asked_for = {grpc.StatusCode.DEADLINE_EXCEEDED} if "timeout" in request.parameters else set()
    assert status(channel, f"{OIP}ModelInfer", request.SerializeToString()) in SENDERS_FAULT | asked_for


@fuzz
@given(
    data=mutated(
        oip_pb.ModelInferRequest(
            model_name="identity",
            inputs=[oip_pb.ModelInferRequest.InferInputTensor(name="INPUT0", datatype="FP32", shape=[1, 4])],
            raw_input_contents=[bytes(16)],
        ).SerializeToString()
    )
)
def test_mutated_tensors(channel, data):
    """A ModelInfer request with damaged bytes."""
    assert status(channel, f"{OIP}ModelInfer", data) in SENDERS_FAULT


@fuzz
@given(batch=st.lists(requests, min_size=1, max_size=4))
def test_streams_of_any_content(channel, batch):
    """A stream answers each request, with tensors or with a text, and then ends well."""
    stream = channel.stream_stream(
        f"{OIP}ModelStreamInfer",
        oip_pb.ModelInferRequest.SerializeToString,
        oip_pb.ModelStreamInferResponse.FromString,
    )
    answers = list(stream(iter(batch), timeout=CALL_S))
    assert len(answers) == len(batch)
    assert all(answer.error_message != "internal error; the server's log has it" for answer in answers)


def test_a_broken_message_ends_its_stream_with_the_right_status(channel):
    """In a stream too, bytes that are no message are INVALID_ARGUMENT."""
    with pytest.raises(grpc.RpcError) as ended:
        list(channel.stream_stream(f"{OIP}ModelStreamInfer")(iter([b"\xff\xff"]), timeout=CALL_S))
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT


LONG = "\U0001f4f7" * 50_000


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Infer", pb.InferRequest(model=pb.ModelRef(name=LONG), image=request_for(JPEG).image)),
        ("Infer", pb.InferRequest(boot_id=LONG, device_id="d", image=request_for(JPEG).image)),
        ("Infer", pb.InferRequest(device_id=LONG, image=request_for(JPEG).image)),
        ("ModelInfer", oip_pb.ModelInferRequest(model_name=LONG)),
        ("ModelMetadata", oip_pb.ModelMetadataRequest(name=LONG)),
        ("ModelConfig", oip_pb.ModelConfigRequest(name="identity", version=LONG)),
        ("RepositoryModelLoad", oip_pb.RepositoryModelLoadRequest(model_name=LONG)),
        ("RepositoryModelUnload", oip_pb.RepositoryModelUnloadRequest(model_name=LONG)),
    ],
)
def test_names_without_end(channel, method, request_):
    """A name of any length is refused with a text that fits into a header, and is not kept."""
    service = OWN if method == "Infer" else OIP
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(service + method)(request_.SerializeToString(), timeout=CALL_S)
    assert refused.value.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    assert len(refused.value.details()) < 1000
