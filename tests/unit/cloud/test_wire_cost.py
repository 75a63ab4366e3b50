"""The cost of parsing a message: what is ordinary passes, what would hold up all threads does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spillover.cloud.rpc.wire_cost import check_cost
from spillover.common.errors import TooLargeError
from spillover.common.wire.pb import open_inference_pb2 as pb

REQUEST = pb.ModelInferRequest.DESCRIPTOR
LIMIT = 10_000


def _field(number: int, wire_type: int, body: bytes) -> bytes:
    return _varint(number << 3 | wire_type) + (_varint(len(body)) if wire_type == 2 else b"") + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(message: object, field: str) -> int:
    return message.DESCRIPTOR.fields_by_name[field].number


def _contents(body: bytes) -> bytes:
    """A request with one input whose contents are `body`."""
    tensor = pb.ModelInferRequest.InferInputTensor
    return _field(_number(pb.ModelInferRequest, "inputs"), 2, _field(_number(tensor, "contents"), 2, body))


def _list(field: str, wire_type: int, body: bytes, times: int = 1) -> bytes:
    return _contents(_field(_number(pb.InferTensorContents, field), wire_type, body) * times)


HOSTILE = {
    "empty inputs": _field(_number(pb.ModelInferRequest, "inputs"), 2, b"") * 1000,
    "parameters": _field(_number(pb.ModelInferRequest, "parameters"), 2, _field(1, 2, b"k")) * 1000,
    "empty raw contents": _field(_number(pb.ModelInferRequest, "raw_input_contents"), 2, b"") * 20_000,
    "strings": _list("bytes_contents", 2, b"", 20_000),
    "packed numbers": _list("int_contents", 2, b"\x01" * 200_000),
    "packed booleans": _list("bool_contents", 2, b"\x01" * 200_000),
    "numbers one by one": _list("int_contents", 0, b"\x01", 20_000),
    "fixed numbers one by one": _list("fp32_contents", 5, b"\x00" * 4, 20_000),
    "unknown fields": _field(1000, 0, b"\x01") * 20_000,
    "groups": (_varint(1000 << 3 | 3) + _varint(1000 << 3 | 4)) * 20_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_many_fields_in_few_bytes_are_refused(name):
    """Each is a message that protobuf parses, at a cost out of proportion to its bytes."""
    pb.ModelInferRequest.FromString(HOSTILE[name])
    with pytest.raises(TooLargeError):
        check_cost(HOSTILE[name], REQUEST, LIMIT)


def test_tensors_cost_nothing_however_large():
    """Raw bytes and packed floats are copied in one go."""
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(10**7)])
    request.inputs.add(name="x", datatype="FP32", shape=[2**20]).contents.fp32_contents.extend([1.0] * 2**20)
    check_cost(request.SerializeToString(), REQUEST, 200)


@given(
    st.lists(st.text(max_size=5), max_size=5),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=50),
    st.lists(st.binary(max_size=5), max_size=50),
)
def test_the_limit_is_in_elements(names, numbers, strings):
    """A request costs at most its elements, and a fixed amount for each message in it."""
    request = pb.ModelInferRequest(model_name="m")
    for name in names:
        one = request.inputs.add(name=name, shape=[len(numbers)])
        one.contents.int_contents.extend(numbers)
        one.contents.bytes_contents.extend(strings)
    elements = len(names) * (len(numbers) + len(strings))
    check_cost(request.SerializeToString(), REQUEST, elements + 150 * len(names) + 1)


@given(st.binary(max_size=200))
def test_damaged_bytes_are_left_to_the_parser(data):
    """Whatever the bytes: no other error than that of too great a cost, which so few cannot have."""
    check_cost(data, REQUEST, 100_000)


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60))
def test_a_message_that_is_cut_short_is_left_to_the_parser(string, length):
    """As above, with bytes that are a message up to some point."""
    data = _list("bytes_contents", 2, string)
    check_cost(data[:length], REQUEST, 100_000)


def test_a_number_without_end_ends():
    """Bytes that all say "more follows" are read ten at a time, not to the end."""
    check_cost(b"\xff" * 10_000_000, REQUEST, 10)
