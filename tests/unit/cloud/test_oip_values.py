"""Messages of the Open Inference Protocol to tensors and back; what is wrong is InvalidInputError."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spillover.common.errors import InvalidInputError, UnsupportedError
from spillover.common.wire.oip import reply_from_pb, reply_to_pb, request_from_pb, request_to_pb
from spillover.common.wire.pb import open_inference_pb2 as pb
from spillover.common.wire.tensors import DTYPES, TensorReply, TensorRequest, tensor_from_raw

NUMBERS = [dtype for dtype in DTYPES.values() if not dtype.hasobject]
TENSORS = st.one_of(
    st.sampled_from(NUMBERS).flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_side=0))),
    arrays.arrays(
        np.object_, arrays.array_shapes(), elements=st.text(st.characters(exclude_categories=["Cs"]))
    ),
)


@given(TENSORS, st.text(max_size=8), st.integers(0, 2**63))
def test_a_request_survives_the_wire(tensor, name, priority):
    """Any tensor of any datatype comes out as it went in, with its name, id and parameters."""
    request = TensorRequest("m", {name: tensor}, "2", "id", ("out",), priority, 0.25)
    back = request_from_pb(pb.ModelInferRequest.FromString(request_to_pb(request).SerializeToString()))
    np.testing.assert_array_equal(back.inputs[name], tensor)
    assert back.inputs[name].dtype == tensor.dtype
    assert (back.model_name, back.model_version, back.request_id) == ("m", "2", "id")
    assert (back.outputs, back.priority, back.timeout_s) == (("out",), priority, 0.25)


@given(TENSORS)
def test_a_reply_survives_the_wire(tensor):
    """As for requests."""
    message = reply_to_pb(TensorReply("m", "1", {"y": tensor}, "id"))
    back = reply_from_pb(pb.ModelInferResponse.FromString(message.SerializeToString()))
    np.testing.assert_array_equal(back.outputs["y"], tensor)
    assert (back.model_name, back.model_version, back.request_id) == ("m", "1", "id")


TYPED = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-1, 2]),
    "INT32": ("int_contents", [-(2**31), 2]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 65535]),
    "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [1, 2**64 - 1]),
    "FP32": ("fp32_contents", [0.5, -2.0]),
    "FP64": ("fp64_contents", [0.5, 1e300]),
    "BYTES": ("bytes_contents", [b"", "\u00fc".encode()]),
}


def _typed(datatype: str, field: str, values: list, shape: tuple[int, ...]) -> pb.ModelInferRequest:
    contents = pb.InferTensorContents(**{field: values})
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="x", datatype=datatype, shape=shape, contents=contents
    )
    return pb.ModelInferRequest(model_name="m", inputs=[tensor])


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents_are_understood(datatype):
    """Each datatype's values are taken from its own list."""
    field, values = TYPED[datatype]
    tensor = request_from_pb(_typed(datatype, field, values, (2, 1))).inputs["x"]
    assert tensor.dtype == DTYPES[datatype]
    assert tensor.shape == (2, 1)
    expected = [value.decode() for value in values] if datatype == "BYTES" else values
    assert tensor.ravel().tolist() == expected


WRONG = {
    "too few values": _typed("INT8", "int_contents", [1], (2,)),
    "value out of range": _typed("UINT8", "uint_contents", [256], (1,)),
    "negative length": _typed("FP32", "fp32_contents", [1], (-1,)),
    "unknown datatype": _typed("FP8", "fp32_contents", [1], (1,)),
    "half floats are raw": _typed("FP16", "fp32_contents", [1], (1,)),
    "not UTF-8": _typed("BYTES", "bytes_contents", [b"\xff"], (1,)),
    "astronomical shape": _typed("FP64", "fp64_contents", [], (2**62, 2**62)),
    "astronomical and empty": _typed("FP64", "fp64_contents", [], (0, 2**62)),
    "too many axes": _typed("FP64", "fp64_contents", [1.0], (1,) * 65),
}


@pytest.mark.parametrize("case", WRONG)
def test_contents_that_do_not_fit_are_the_senders_fault(case):
    """Every misfit is InvalidInputError."""
    with pytest.raises(InvalidInputError):
        request_from_pb(WRONG[case])


def test_a_raw_tensor_is_not_copied():
    """The array looks at the bytes that came."""
    raw = np.arange(6, dtype=np.float32).tobytes()
    tensor = tensor_from_raw("x", "FP32", (2, 3), raw)
    assert not tensor.flags.owndata
    assert np.shares_memory(tensor, np.frombuffer(raw, np.uint8))


LENGTHS = st.one_of(st.integers(-2, 9), st.sampled_from([0, 1, 2**31, 2**62, 2**63 - 1]))


@given(
    st.binary(max_size=64),
    st.sampled_from([*DTYPES, "?"]),
    st.one_of(st.lists(LENGTHS, max_size=4), st.lists(st.sampled_from([0, 1]), max_size=80)),
)
@example(b"", "FP32", [0, 2**62])
@example(b"", "BYTES", [2**62, 0, 2**62])
@example(b"1234", "FP32", [1] * 65)
def test_any_bytes_give_a_tensor_or_the_senders_fault(raw, datatype, shape):
    """Arbitrary bytes, shapes and names of datatypes raise nothing but InvalidInputError."""
    try:
        tensor = tensor_from_raw("x", datatype, tuple(shape), raw)
    except InvalidInputError:
        return
    assert tensor.shape == tuple(shape)


@pytest.mark.parametrize("key", ["priority", "timeout"])
@pytest.mark.parametrize("value", [{"string_param": "1"}, {"int64_param": -1}, {"bool_param": True}])
def test_a_parameter_that_is_no_number_is_refused(key, value):
    """Priority and timeout are non-negative integers."""
    message = pb.ModelInferRequest(model_name="m", parameters={key: pb.InferParameter(**value)})
    with pytest.raises(InvalidInputError, match=key):
        request_from_pb(message)


def test_shared_memory_is_refused_by_name():
    """A tensor that lies in shared memory is not taken for an empty one: the extension is not here."""
    message = _typed("FP32", "fp32_contents", [1], (1,))
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(UnsupportedError, match="shared_memory_region"):
        request_from_pb(message)


def test_a_tensor_comes_raw_or_typed():
    """A tensor with both is refused: nobody knows which is meant."""
    message = _typed("FP32", "fp32_contents", [1], (1,))
    message.raw_input_contents.append(bytes(4))
    with pytest.raises(InvalidInputError, match="twice"):
        request_from_pb(message)
