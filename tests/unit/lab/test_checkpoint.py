"""The checkpoint reader: both formats of `torch.save`, written here opcode by opcode, and nothing hostile."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.common.errors import ModelError
from spillover.lab.models.prepare.checkpoint import read_checkpoint

STORAGES = {"f4": "FloatStorage", "i8": "LongStorage", "f2": "HalfStorage", "u1": "ByteStorage"}
MAGIC = 0x1950A86A20F9469CFC6C


def _text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _integer(value):
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def _sequence(*items):
    return b"(" + b"".join(items) + b"t"


def _name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def _storage(key, kind, count):
    return _sequence(_text("storage"), _name("torch", kind), _text(key), _text("cpu"), _integer(count)) + b"Q"


def _tensor(key, kind, count, offset, shape, strides):
    return (
        _name("torch._utils", "_rebuild_tensor_v2")
        + _sequence(
            _storage(key, kind, count),
            _integer(offset),
            _sequence(*map(_integer, shape)),
            _sequence(*map(_integer, strides)),
            b"\x89",
            _name("collections", "OrderedDict") + b")R",
        )
        + b"R"
    )


def _whole(key, array):
    """An array as the pickle of a contiguous tensor that fills its storage."""
    strides = [s // array.itemsize for s in array.strides]
    return _tensor(key, STORAGES[array.dtype.str[1:]], array.size, 0, array.shape, strides)


def _state_dict(entries):
    items = b"".join(_text(key) + value for key, value in entries.items())
    # What PyTorch writes: an OrderedDict, filled, with a `_metadata` attribute set by BUILD.
    metadata = b"}" + _text("_metadata") + _name("collections", "OrderedDict") + b")Rsb"
    return b"\x80\x02" + _name("collections", "OrderedDict") + b")R(" + items + b"u" + metadata + b"."


def _dumped(value):
    return pickle.dumps(value, protocol=2)


def _legacy(program, storages):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}
    parts = [_dumped(MAGIC), _dumped(1001), _dumped(system), program, _dumped(list(storages))]
    data = [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    return b"".join(parts + data)


def _zipped(program, storages, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("net/data.pkl", program)
        archive.writestr("net/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"net/data/{key}", array.tobytes())
    return buffer.getvalue()


ARRAYS = {
    "conv.weight": np.arange(24, dtype="<f4").reshape(2, 3, 4),
    "bn.num_batches_tracked": np.array(7, "<i8"),
    "half": np.array([0.5, -2], "<f2"),
    "empty": np.empty((0, 3), "<f4"),
}
GOOD = {
    write: write(_state_dict({key: _whole(key, a) for key, a in ARRAYS.items()}), ARRAYS)
    for write in (_legacy, _zipped)
}


@pytest.fixture
def read(tmp_path):
    """Reads a checkpoint from its bytes."""

    def read_bytes(data):
        path = tmp_path / "net.pth"
        path.write_bytes(data)
        return read_checkpoint(path)

    return read_bytes


@pytest.mark.parametrize("write", [_legacy, _zipped])
def test_both_formats_give_the_tensors_that_were_written(read, write):
    """Names, shapes, types and values come back from either format."""
    tensors = read(GOOD[write])
    assert list(tensors) == list(ARRAYS)
    for key, array in ARRAYS.items():
        assert tensors[key].dtype == array.dtype
        np.testing.assert_array_equal(tensors[key], array)


def test_a_view_with_strides_and_offset_is_followed(read):
    """A transposed slice that shares its storage with another tensor reads the right elements."""
    base = np.arange(12, dtype="<f4")
    views = {
        "all": _tensor("0", "FloatStorage", 12, 0, (3, 4), (4, 1)),
        "turned": _tensor("0", "FloatStorage", 12, 1, (2, 3), (1, 4)),
    }
    tensors = read(_legacy(_state_dict(views), {"0": base}))
    np.testing.assert_array_equal(tensors["turned"], base.reshape(3, 4)[:, 1:3].T)


def test_a_parameter_is_read_as_its_tensor(read):
    """Checkpoints that store parameters instead of tensors are read too."""
    array = np.ones(3, "<f4")
    parameter = (
        _name("torch._utils", "_rebuild_parameter")
        + _sequence(_whole("0", array), b"\x88", _name("collections", "OrderedDict") + b")R")
        + b"R"
    )
    np.testing.assert_array_equal(read(_legacy(_state_dict({"p": parameter}), {"0": array}))["p"], array)


def test_a_training_checkpoint_gives_its_state_dict(read):
    """A dict that holds the weights under `state_dict` beside other things is opened."""
    array = np.ones(3, "<f4")
    program = (
        b"\x80\x02}("
        + _text("epoch")
        + _integer(3)
        + _text("state_dict")
        + b"}"
        + _text("w")
        + _whole("0", array)
        + b"su."
    )
    assert list(read(_legacy(program, {"0": array}))) == ["w"]


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("collections", "OrderedDict.__init__.__globals__"),
    ],
)
@pytest.mark.parametrize("write", [_legacy, _zipped])
def test_a_hostile_pickle_is_refused_by_name(read, write, module, attribute):
    """Whatever the pickle wants to call is not called, and the refusal names it."""
    program = b"\x80\x02" + _name(module, attribute) + _sequence(_text("echo owned")) + b"R."
    with pytest.raises(ModelError, match=rf"{module}\.{attribute}.*refused"):
        read(write(program, {}))


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (0, (2, 2), (3, 1)),
        (0, (1000, 1000, 1000), (0, 0, 0)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2**62,), (1,)),
        (0, (2**40, 0), (1, 1)),
        (0, (1,) * 70, (1,) * 70),
        (0, (2,), (1, 1)),
    ],
)
def test_a_view_outside_its_storage_is_refused(read, offset, shape, strides):
    """Sizes and strides that leave the storage, or blow it up, are an error and not a read of memory."""
    view = _tensor("0", "FloatStorage", 4, offset, shape, strides)
    with pytest.raises(ModelError, match=r"sizes|offset"):
        read(_legacy(_state_dict({"w": view}), {"0": np.zeros(4, "<f4")}))


def test_a_storage_of_two_types_is_refused(read):
    """The same bytes cannot be floats for one tensor and integers for another."""
    views = {
        "a": _tensor("0", "FloatStorage", 2, 0, (2,), (1,)),
        "b": _tensor("0", "LongStorage", 2, 0, (2,), (1,)),
    }
    with pytest.raises(ModelError, match="two types"):
        read(_legacy(_state_dict(views), {"0": np.zeros(2, "<i8")}))


@pytest.mark.parametrize("write", [_legacy, _zipped])
def test_a_storage_larger_than_the_file_is_refused(read, write):
    """A promise of terabytes is refused before anything is allocated."""
    view = _tensor("0", "FloatStorage", 2**40, 0, (2**40,), (1,))
    data = write(_state_dict({"w": view}), {"0": np.zeros(4, "<f4")})
    with pytest.raises(ModelError, match=r"announced|more bytes|more than"):
        read(data.replace(struct.pack("<q", 4), struct.pack("<q", 2**40)))


def test_a_compressed_archive_is_refused(read):
    """A zip bomb needs compression, and PyTorch uses none."""
    array = np.zeros(1 << 20, "<f4")
    data = _zipped(_state_dict({"w": _whole("0", array)}), {"0": array}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="compressed"):
        read(data)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b"\x80\x02r\xff\xff\xff\x7f.", "memo"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b".", "truncated"),
        (b"\x80\x02\x82\x01.", "damaged"),
        (b"\x80\x02" + _sequence(_text("storage"), _integer(1)) + b"Q.", "persistent id"),
        (b"\x80\x02]" + b".", "not a state dict"),
        (_state_dict({"w": _integer(1)}), "no tensor"),
    ],
    ids=["huge memo index", "huge string", "extension registry", "odd persistent id", "a list", "a number"],
)
def test_a_pickle_that_is_no_state_dict_is_refused(read, program, said):
    """Each way of not being a state dict gets its own sentence, and none gets memory."""
    with pytest.raises(ModelError, match=said):
        read(_legacy(program, {}))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x02K\x01.", b"<html>not found</html>"])
def test_a_file_that_is_no_checkpoint_says_so(read, data):
    """An empty file, a stub of a zip, some other pickle, a web page: a ModelError that names the file."""
    with pytest.raises(ModelError, match=r"net\.pth"):
        read(data)


@pytest.mark.parametrize("write", [_legacy, _zipped])
def test_every_truncation_is_an_error(read, write):
    """No prefix of a good file passes for the file."""
    data = GOOD[write]
    for length in range(len(data)):
        with pytest.raises(ModelError):
            read(data[:length])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(max_examples=300, deadline=None)
@given(write=st.sampled_from([_legacy, _zipped]), data=st.data())
def test_damage_gives_an_error_or_tensors_of_the_announced_shape(tmp_path_factory, write, data):
    """Changed bytes never raise anything but ModelError, and never give a tensor larger than the file."""
    damaged = bytearray(GOOD[write])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "net.pth"
    path.write_bytes(bytes(damaged))
    try:
        tensors = read_checkpoint(path)
    except ModelError:
        return
    assert all(tensor.nbytes <= len(damaged) for tensor in tensors.values())
