"""TensorFlow.js graphs as ONNX: each operator against NumPy, the files, and a whole network."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from spillover.common.errors import ModelError
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session_config import SessionConfig
from spillover.lab.models.tfjs.convert import Feed, convert
from spillover.lab.models.tfjs.files import read_tfjs
from spillover.lab.models.tfjs.graph import CHANNELS_FIRST, plain
from spillover.lab.models.tfjs.ops import OPS
from tests.support.tfjs import TinyGraph, listed, text, window

Floats = npt.NDArray[np.float32]
ONE = SessionConfig(threads=1, providers=("CPUExecutionProvider",))
RANDOM = np.random.default_rng(5)
PICTURE: Floats = RANDOM.normal(0, 1, (1, 7, 6, 3)).astype(np.float32)
"""Channels last, as TensorFlow has it."""


def run(
    path: Path, x: Floats, outputs: Sequence[str], *, first: bool = True, resized: float = 1.0
) -> list[Floats]:
    """Convert the graph from input `x`, which ONNX gets with its channels first, and run it on `x`."""
    layout = CHANNELS_FIRST if first else plain(x.ndim)
    names = {source: f"output_{number}" for number, source in enumerate(outputs)}
    network = convert(read_tfjs(path), Feed("x", "image", x.shape, layout), names, resized=resized)
    onnx.save(network, path.with_name("model.onnx"))
    runtime = open_runtime(path.with_name("model.onnx"), ONE)
    return runtime.run([np.ascontiguousarray(x.transpose(layout))])  # type: ignore[return-value]


def unary(op: str, **attributes: Any) -> Callable[[Path, Floats], Floats]:
    """What a node of one input gives."""

    def result(folder: Path, x: Floats) -> Floats:
        graph = TinyGraph()
        graph.placeholder("x", *x.shape)
        graph.node(op, "y", ["x"], **attributes)
        graph.constant("unused", np.zeros(4))
        return run(graph.write(folder), x, ["y"])[0]

    return result


@pytest.mark.parametrize(
    ("op", "attributes", "formula"),
    [
        ("Relu", {}, lambda x: np.maximum(x, 0)),
        ("Relu6", {}, lambda x: np.clip(x, 0, 6)),
        ("LeakyRelu", {"alpha": {"f": 0.1}}, lambda x: np.where(x > 0, x, 0.1 * x)),
        ("Sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
        ("Identity", {}, lambda x: x),
    ],
)
def test_functions_of_one_element(
    tmp_path: Path, op: str, attributes: dict[str, Any], formula: Callable[[Floats], Floats]
) -> None:
    """Each is its formula, at the place where TensorFlow has it."""
    x = 5 * PICTURE
    np.testing.assert_allclose(unary(op, **attributes)(tmp_path, x), formula(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "formula"),
    [
        ("Add", np.add),
        ("AddV2", np.add),
        ("BiasAdd", np.add),
        ("Sub", np.subtract),
        ("Mul", np.multiply),
    ],
)
@pytest.mark.parametrize("other", [(3,), (), (6, 3), (1, 7, 6, 1)])
def test_a_picture_and_a_constant(
    tmp_path: Path, op: str, formula: Callable[..., Floats], other: tuple[int, ...]
) -> None:
    """A constant of fewer axes is broadcast from the last one, whatever order the picture's axes lie in."""
    constant = RANDOM.normal(0, 1, other).astype(np.float32)
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    graph.constant("c", constant)
    graph.node(op, "y", ["x", "c"])
    graph.node(op, "z", ["c", "x"])
    y, z = run(graph.write(tmp_path), PICTURE, ["y", "z"])
    np.testing.assert_allclose(y, formula(PICTURE, constant), rtol=1e-6)
    np.testing.assert_allclose(z, formula(constant, PICTURE), rtol=1e-6)


def test_add_n_adds_all(tmp_path: Path) -> None:
    """Pictures in two orders of axes, and a constant of fewer axes."""
    graph = TinyGraph()
    graph.placeholder("x", 1, 4, 4, 4)
    graph.whole("order", 0, 2, 1, 3)
    graph.node("Transpose", "turned", ["x", "order"])
    graph.constant("row_of", np.ones((4,)))
    graph.node("AddN", "y", ["x", "turned", "row_of"])
    x = RANDOM.normal(0, 1, (1, 4, 4, 4)).astype(np.float32)
    (y,) = run(graph.write(tmp_path), x, ["y"])
    np.testing.assert_allclose(y, x + x.transpose(0, 2, 1, 3) + 1, rtol=1e-5, atol=1e-6)


def convolved(
    x: Floats, weight: Floats, stride: int, dilation: int, *, same: bool, depthwise: bool
) -> Floats:
    """Convolution by its definition; SAME pads so that there are ceil(size / stride) places."""
    rows, columns, _, filters = weight.shape
    reach = [(size - 1) * dilation + 1 for size in (rows, columns)]
    if same:
        pads = []
        for length, size in zip(x.shape[1:3], reach, strict=True):
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, [(0, 0), *pads, (0, 0)])
    places = [(length - size) // stride + 1 for length, size in zip(x.shape[1:3], reach, strict=True)]
    y = np.zeros((1, *places, x.shape[3] * filters if depthwise else filters), np.float32)
    for row in range(places[0]):
        for column in range(places[1]):
            top, left = row * stride, column * stride
            part = x[0, top : top + reach[0] : dilation, left : left + reach[1] : dilation]
            if depthwise:
                y[0, row, column] = np.einsum("yxc,yxcm->cm", part, weight).reshape(-1)
            else:
                y[0, row, column] = np.einsum("yxc,yxcf->f", part, weight)
    return y


@pytest.mark.parametrize("op", ["Conv2D", "DepthwiseConv2dNative"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 1)])
def test_convolutions(
    tmp_path: Path, op: str, padding: str, stride: int, dilation: int, kernel: tuple[int, int]
) -> None:
    """By the definition, with every padding, stride and dilation, on a picture with an odd side."""
    depthwise = op != "Conv2D"
    weight = RANDOM.normal(0, 1, (*kernel, 3, 2)).astype(np.float32)
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    graph.constant("w", weight)
    graph.node(
        op, "y", ["x", "w"], **window(padding, stride, stride, dilations=listed(1, dilation, dilation, 1))
    )
    (y,) = run(graph.write(tmp_path), PICTURE, ["y"])
    expected = convolved(PICTURE, weight, stride, dilation, same=padding == "SAME", depthwise=depthwise)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["FusedBatchNorm", "FusedBatchNormV3"])
def test_batch_norm_uses_what_was_stored(tmp_path: Path, op: str) -> None:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, by channel."""
    gamma, beta, mean = RANDOM.normal(0, 1, (3, 3)).astype(np.float32)
    variance = RANDOM.uniform(0.5, 2, 3).astype(np.float32)
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    for name, value in {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}.items():
        graph.constant(name, value)
    graph.node(op, "y", ["x", "gamma", "beta", "mean", "variance"], epsilon={"f": 0.001})
    (y,) = run(graph.write(tmp_path), PICTURE, ["y"])
    expected = (PICTURE - mean) / np.sqrt(variance + 0.001) * gamma + beta
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["Pad", "PadV2"])
def test_padding(tmp_path: Path, op: str) -> None:
    """Before and after every axis, with zeros or a value."""
    amounts = [(0, 0), (1, 2), (3, 0), (0, 1)]
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    graph.constant("amounts", amounts, np.int32)
    graph.constant("filler", -7.5)
    graph.node(op, "y", ["x", "amounts"] if op == "Pad" else ["x", "amounts", "filler"])
    (y,) = run(graph.write(tmp_path), PICTURE, ["y"])
    np.testing.assert_array_equal(y, np.pad(PICTURE, amounts, constant_values=0 if op == "Pad" else -7.5))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_max_pool(tmp_path: Path, padding: str) -> None:
    """The largest of each window; what is padded never wins, also where all are negative."""
    x = PICTURE - 10
    graph = TinyGraph()
    graph.placeholder("x", *x.shape)
    graph.constant("unused", np.zeros(4))
    graph.node("MaxPool", "y", ["x"], **window(padding, 2, 2, ksize=listed(1, 3, 3, 1)))
    (y,) = run(graph.write(tmp_path), x, ["y"])
    padded = np.pad(x, [(0, 0), (1, 1), (0, 1), (0, 0)], constant_values=-np.inf) if padding == "SAME" else x
    for row, column in np.ndindex(*y.shape[1:3]):
        part = padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        np.testing.assert_array_equal(y[:, row, column], part.max(axis=(1, 2)))


@pytest.mark.parametrize("amounts", [[(0, 0), (1, 1), (1, 0), (0, 0)], [(0, 0), (4, 0), (0, 0), (0, 0)]])
def test_a_padding_of_minus_infinity_is_the_poolings_own(
    tmp_path: Path, amounts: list[tuple[int, int]]
) -> None:
    """It goes into the pooling where ONNX lets it, across a transpose too, and no infinity is left."""
    x = PICTURE.transpose(0, 3, 1, 2)
    graph = TinyGraph()
    graph.placeholder("x", *x.shape)
    graph.whole("to_last", 0, 2, 3, 1)
    graph.constant("amounts", [amounts[axis] for axis in (0, 3, 1, 2)], np.int32)
    graph.constant("filler", -np.inf)
    graph.node("PadV2", "padded", ["x", "amounts", "filler"])
    graph.node("Transpose", "last", ["padded", "to_last"])
    graph.node("MaxPool", "y", ["last"], **window("VALID", 2, 2, ksize=listed(1, 3, 3, 1)))
    (y,) = run(graph.write(tmp_path), x, ["y"], first=False)
    padded = np.pad(PICTURE, amounts, constant_values=-np.inf)
    expected = [
        padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max(axis=(1, 2))
        for row, column in np.ndindex(*y.shape[1:3])
    ]
    np.testing.assert_array_equal(y.reshape(-1, 3), np.concatenate(expected))
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert ("Pad" in kinds) == (amounts[1] == (4, 0))


def test_an_activation_before_a_pooling_goes_behind_it(tmp_path: Path) -> None:
    """The same numbers, and both uses of the activated picture are right."""
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    graph.constant("unused", np.zeros(4))
    graph.node("LeakyRelu", "active", ["x"], alpha={"f": 0.1})
    graph.node("MaxPool", "y", ["active"], **window("VALID", 2, 2, ksize=listed(1, 2, 2, 1)))
    graph.node("Sigmoid", "z", ["active"])
    y, z = run(graph.write(tmp_path), PICTURE, ["y", "z"])
    active = np.where(PICTURE > 0, PICTURE, 0.1 * PICTURE)
    np.testing.assert_allclose(y, active[:, :6].reshape(1, 3, 2, 3, 2, 3).max(axis=(2, 4)), rtol=1e-6)
    np.testing.assert_allclose(z, 1 / (1 + np.exp(-active)), rtol=1e-6)


@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("resized", [1.0, 0.5])
def test_resize_bilinear_follows_the_input(tmp_path: Path, half_pixel: bool, resized: float) -> None:
    """Doubled with and without half pixels; a graph made for 8 pixels doubles 4 to 8 when it is resized."""
    x = RANDOM.normal(0, 1, (1, round(8 * resized), round(8 * resized), 2)).astype(np.float32)
    graph = TinyGraph()
    graph.placeholder("x", 1, 8, 8, 2)
    graph.whole("size", 16, 16)
    graph.node("ResizeBilinear", "y", ["x", "size"], half_pixel_centers={"b": half_pixel})
    (y,) = run(graph.write(tmp_path), x, ["y"], resized=resized)
    side = x.shape[1]
    place = (np.arange(2 * side) + 0.5) / 2 - 0.5 if half_pixel else np.arange(2 * side) / 2
    low = np.clip(np.floor(place).astype(int), 0, side - 1)
    high, share = np.minimum(low + 1, side - 1), np.clip(place, 0, side - 1) - low
    rows = x[:, low] * (1 - share)[:, None, None] + x[:, high] * share[:, None, None]
    expected = rows[:, :, low] * (1 - share)[:, None] + rows[:, :, high] * share[:, None]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_transposes_only_change_the_layout(tmp_path: Path) -> None:
    """Two orders after each other are their composition, and nothing is moved between them."""
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    graph.whole("one", 0, 3, 1, 2)
    graph.whole("two", 0, 2, 1, 3)
    graph.node("Transpose", "a", ["x", "one"])
    graph.node("Transpose", "y", ["a", "two"])
    (y,) = run(graph.write(tmp_path), PICTURE, ["y"])
    np.testing.assert_array_equal(y, PICTURE.transpose(0, 3, 1, 2).transpose(0, 2, 1, 3))
    kinds = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("Transpose") == 1


@pytest.mark.parametrize("axis", [1, 3, -1])
def test_concat_joins_tensors_of_any_layout(tmp_path: Path, axis: int) -> None:
    """Along TensorFlow's axis, also where one input lies in another order."""
    x = RANDOM.normal(0, 1, (1, 4, 4, 4)).astype(np.float32)
    graph = TinyGraph()
    graph.placeholder("x", *x.shape)
    graph.whole("order", 0, 3, 2, 1)
    graph.whole("axis", axis)
    graph.node("Transpose", "turned", ["x", "order"])
    graph.node("ConcatV2", "y", ["x", "turned", "x", "axis"])
    (y,) = run(graph.write(tmp_path), x, ["y"])
    np.testing.assert_array_equal(y, np.concatenate([x, x.transpose(0, 3, 2, 1), x], axis=axis))


def test_split_gives_every_part(tmp_path: Path) -> None:
    """Parts of unequal lengths; the second is `node:1`."""
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    graph.whole("lengths", 1, 2)
    graph.whole("axis", 3)
    graph.node("SplitV", "parts", ["x", "lengths", "axis"])
    graph.node("Sigmoid", "y", ["parts:1"])
    first, second = run(graph.write(tmp_path), PICTURE, ["parts", "y"])
    np.testing.assert_array_equal(first, PICTURE[..., :1])
    np.testing.assert_allclose(second, 1 / (1 + np.exp(-PICTURE[..., 1:])), rtol=1e-6)


def test_reshape_keeps_the_batch_free(tmp_path: Path) -> None:
    """The batch is asked of the network (Shape, StridedSlice, Pack); it takes two pictures as well."""
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    graph.whole("zero", 0)
    graph.weights["begin"] = np.array([0], np.int32)
    graph.weights["end"] = np.array([1], np.int32)
    graph.whole("rest", 42)
    graph.whole("channels", 3)
    graph.node("Shape", "shape", ["x"])
    graph.node("StridedSlice", "batch", ["shape", "begin", "end", "end"], shrink_axis_mask={"i": "1"})
    graph.node("Pack", "wanted", ["batch", "rest", "channels"])
    graph.node("Reshape", "y", ["x", "wanted"])
    (y,) = run(graph.write(tmp_path), PICTURE, ["y"])
    np.testing.assert_array_equal(y, PICTURE.reshape(1, 42, 3))
    runtime = open_runtime(tmp_path / "model.onnx", ONE)
    assert runtime.outputs[0].shape == (-1, 42, 3)
    both = np.concatenate([PICTURE, 2 * PICTURE])
    (two,) = runtime.run([np.ascontiguousarray(both.transpose(CHANNELS_FIRST))])
    np.testing.assert_array_equal(two, both.reshape(2, 42, 3))


def test_sparse_shapes_are_worked_out_beforehand(tmp_path: Path) -> None:
    """A shape that the graph computes from constants (SparseToDense, AddV2) is one."""
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    graph.constant("indices", [[2]], np.int32)
    graph.weights["length"] = np.array([3], np.int32)
    graph.weights["values"] = np.array([3], np.int32)
    graph.whole("zero", 0)
    graph.whole("base", 1, 42, 0)
    graph.node("SparseToDense", "dense", ["indices", "length", "values", "zero"])
    graph.node("AddV2", "wanted", ["base", "dense"])
    graph.node("Reshape", "y", ["x", "wanted"])
    (y,) = run(graph.write(tmp_path), PICTURE, ["y"])
    np.testing.assert_array_equal(y, PICTURE.reshape(1, 42, 3))


def test_every_operator_of_the_table_has_a_test_here() -> None:
    """An operator that is added without a test fails this one."""
    source = Path(__file__).read_text(encoding="utf-8")
    assert [op for op in OPS if f'"{op}"' not in source] == []


@pytest.mark.parametrize(
    ("stored", "tolerance"),
    [
        ((np.float16, {"dtype": "float16", "original_dtype": "float32"}), 1e-3),
        ((np.uint8, {"dtype": "uint8", "scale": 0.03, "min": -4.0}), 0.02),
        ((np.uint16, {"dtype": "uint16", "scale": 0.001, "min": -4.0}), 1e-3),
    ],
)
def test_weights_may_be_stored_in_fewer_bits(
    tmp_path: Path, stored: tuple[Any, dict[str, Any]], tolerance: float
) -> None:
    """As halves, or as whole numbers with a scale and an offset; a file ends anywhere in a number."""
    weight = RANDOM.uniform(-3, 3, (5, 7)).astype(np.float32)
    graph = TinyGraph()
    graph.constant("w", weight)
    graph.whole("n", 1, 2, 3)
    found = read_tfjs(graph.write(tmp_path, {"w": stored})).weights
    assert found["w"].dtype == np.float32
    np.testing.assert_allclose(found["w"], weight, atol=tolerance)
    assert found["n"].tolist() == [1, 2, 3]


def _plain_graph(folder: Path) -> Path:
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    graph.constant("c", np.zeros(40))
    graph.node("Add", "y", ["x", "c"])
    return graph.write(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.with_name("two.bin").unlink(), "two.bin: No such file"),
        (lambda path: path.with_name("two.bin").write_bytes(b""), "bytes, but the weights are 160"),
        (lambda path: path.with_name("two.bin").write_bytes(bytes(400)), "bytes, but the weights are 160"),
        (lambda path: path.write_text("{"), "not a TensorFlow.js graph model"),
        (
            lambda path: path.write_text('{"modelTopology": {"model_config": {}}}'),
            "not a TensorFlow.js graph",
        ),
        (lambda path: path.write_text(path.read_text().replace("two.bin", "../two.bin")), "another folder"),
        (
            lambda path: path.write_text(path.read_text().replace('"float32"', '"complex64"')),
            "type complex64",
        ),
        (lambda path: path.unlink(), "model.json: No such file"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    """Absent, cut, lengthened, of another format, or elsewhere: a ModelError that says which and why."""
    path = _plain_graph(tmp_path)
    damage(path)
    with pytest.raises(ModelError, match=message):
        read_tfjs(path)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Fft", ["x"], {})], "operator Fft is not known here"),
        ([("Relu", ["nowhere"], {})], "no node 'nowhere'"),
        ([("Relu", ["y"], {})], "depends on itself"),
        ([("Relu", ["other"], {})], "node other is an input of the graph that nothing is fed to"),
        ([("Conv2D", ["x", "x"], window())], "input 1 is not a constant"),
        ([("Conv2D", ["x", "w"], window("EXPLICIT"))], "padding 'EXPLICIT'"),
        ([("Conv2D", ["x", "w"], window(data_format=text("NCHW")))], "data_format NCHW"),
        ([("Conv2D", ["x", "w"], {"padding": text("SAME")})], "strides"),
        ([("LeakyRelu", ["x"], {})], "no number 'alpha'"),
        ([("Add", ["x", "seven"], {})], "broadcast"),
        ([("Reshape", ["x", "seven"], {})], "moves the batch"),
    ],
)
def test_what_is_not_known_is_named(
    tmp_path: Path, nodes: list[tuple[str, list[str], dict[str, Any]]], message: str
) -> None:
    """An operator, a form of one, or a broken graph: a ModelError that names the node."""
    graph = TinyGraph()
    graph.placeholder("x", *PICTURE.shape)
    graph.placeholder("other", 1)
    graph.constant("w", np.zeros((1, 1, 3, 2)))
    graph.constant("seven", np.full(7, 7), np.int32)
    for op, inputs, attributes in nodes:
        graph.node(op, "y", inputs, **attributes)
    with pytest.raises(ModelError, match=message):
        run(graph.write(tmp_path), PICTURE, ["y"])


def test_a_whole_network_gives_what_another_conversion_gives(shared_dir: Path, tmp_path: Path) -> None:
    """NanoDet-g of its TensorFlow.js files: all six outputs as those of its ONNX form, for any batch."""
    source = read_tfjs(shared_dir / "models" / "tfjs" / "nanodet.json")
    names = {"Identity": "cls8", "Identity_1": "cls16", "Identity_2": "cls32"}
    names |= {"Identity_3": "reg8", "Identity_4": "reg16", "Identity_5": "reg32"}
    onnx.save(
        convert(source, Feed("input_1", "image", (1, 3, 416, 416), plain(4)), names), tmp_path / "ours.onnx"
    )
    ours = open_runtime(tmp_path / "ours.onnx", SessionConfig(threads=2))
    theirs = open_runtime(shared_dir / "models" / "nanodet_g_416.onnx", SessionConfig(threads=2))
    assert [spec.name for spec in ours.outputs] == [spec.name for spec in theirs.outputs]
    x = RANDOM.normal(0, 1, (2, 3, 416, 416)).astype(np.float32)
    both = ours.run([x])
    for index in range(2):
        for got, expected in zip(both, theirs.run([x[index : index + 1]]), strict=True):
            np.testing.assert_allclose(got[index], expected[0], rtol=1e-4, atol=1e-5)


def test_a_network_may_be_made_at_another_size(shared_dir: Path, tmp_path: Path) -> None:
    """NanoDet-g at 256 pixels has the cells of 256 pixels, though its files are for 416."""
    source = read_tfjs(shared_dir / "models" / "tfjs" / "nanodet.json")
    feed = Feed("input_1", "image", (1, 3, 256, 256), plain(4))
    network = convert(source, feed, {"Identity": "cls8", "Identity_5": "reg32"}, resized=256 / 416)
    onnx.save(network, tmp_path / "small.onnx")
    runtime = open_runtime(tmp_path / "small.onnx", ONE)
    assert [spec.shape for spec in runtime.outputs] == [(-1, 32 * 32, 80), (-1, 8 * 8, 44)]
    cls8, reg32 = runtime.run([np.zeros((1, 3, 256, 256), np.float32)])
    assert (cls8.shape, reg32.shape) == ((1, 1024, 80), (1, 64, 44))


def test_the_json_of_a_layers_model_is_refused(tmp_path: Path) -> None:
    """A Keras model of TensorFlow.js has no graph: it is told so."""
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"format": "layers-model", "modelTopology": {"class_name": "Model"}}))
    with pytest.raises(ModelError, match=r"not a TensorFlow\.js graph model"):
        read_tfjs(path)
