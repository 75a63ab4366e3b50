"""Quantisation of small networks made here: what stays float, what is narrowed, and what the report says."""

import json

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from spillover.common.errors import ConfigError, ModelError, SourceError
from spillover.common.model.manifest import Input, Manifest, Output, open_model_folder
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.lab.data.pictures import folder_pictures
from spillover.lab.models.folder import NO_DIGEST, building, finish
from spillover.lab.models.quantize.calibration import HISTOGRAM_BUDGET_BYTES, PictureReader, chunk_of
from spillover.lab.models.quantize.cli import quantize
from spillover.lab.models.quantize.comparison import recommend
from spillover.lab.models.quantize.layers import dense_weights, excluded_nodes, float_nodes, name_nodes
from spillover.lab.models.quantize.outputs import RelativeError
from spillover.lab.models.quantize.quantization import default_target
from spillover.lab.models.quantize.recipe import FloatLayers, Recipe
from spillover.lab.models.quantize.static import quantize_onnx
from spillover.lab.terminal import Silent

pytestmark = pytest.mark.slow

SIDE = 16


def _tiny_network(opset=17, names=True):
    """A chain: stem -> relu -> depthwise -> dense -> relu -> prediction -> pool -> flatten: ten classes."""
    random = np.random.default_rng(0)
    nodes, weights = [], []

    def conv(name, source, shape, groups=1):
        weights.append(numpy_helper.from_array(random.normal(0, 0.5, shape).astype(np.float32), f"{name}/w"))
        pads = [shape[-1] // 2] * 4
        nodes.append(helper.make_node("Conv", [source, f"{name}/w"], [name], name, pads=pads, group=groups))
        return name

    def simple(kind, name, source):
        nodes.append(helper.make_node(kind, [source], [name], name))
        return name

    at = simple("Relu", "stem/relu", conv("stem", "image", (8, 3, 3, 3)))
    at = conv("depthwise", at, (8, 1, 3, 3), groups=8)
    at = simple("Relu", "dense/relu", conv("dense", at, (16, 8, 1, 1)))
    at = simple("GlobalAveragePool", "pool", conv("prediction", at, (10, 16, 1, 1)))
    simple("Flatten", "logits", at)
    if not names:
        for node in nodes:
            node.name = ""
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "tiny", [image], [logits], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def tiny(tmp_path):
    """A model folder with the tiny network."""
    manifest = Manifest(
        name="tiny",
        version="1",
        task=CLASSIFICATION.name,
        input=Input(height=SIDE, width=SIDE, std=(64.0, 64.0, 64.0), mean=(127.0, 127.0, 127.0)),
        output=Output(decoder="logits"),
        sha256=NO_DIGEST,
    )
    target = tmp_path / "models" / "tiny" / "1"
    with building(target) as folder:
        onnx.save(_tiny_network(), folder / "model.onnx")
        finish(folder, manifest, [f"class {i}" for i in range(10)])
    return target


@pytest.fixture
def pictures(tmp_path):
    """A folder of twelve random pictures, some in a subfolder, beside a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    random = np.random.default_rng(3)
    for index in range(12):
        image = cv2.resize(random.integers(0, 256, (4, 4, 3), np.uint8), (40, 30))
        cv2.imwrite(str(folder / ("sub" if index % 2 else ".") / f"{index:02}.png"), image)
    (folder / "notes.txt").write_text("no picture")
    return folder


def _run(tiny, pictures, *options):
    result = CliRunner().invoke(quantize, [str(tiny), "--calibration", str(pictures), *options])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_quantize_writes_a_model_folder_that_runs_and_says_nearly_the_same(tiny, pictures, tmp_path):
    """The INT8 folder loads like any other, is labelled, and its outputs are close to the float model's."""
    figures = tmp_path / "out" / "figures.json"
    result = _run(tiny, pictures, "--json", str(figures))
    assert result.exit_code == 0
    made = default_target(tiny)
    assert made == tmp_path / "models" / "tiny-int8" / "1"
    model = Model.load(made)
    assert str(model.model_id) == "tiny-int8@1"
    assert model.folder.labels[9] == "class 9"
    said = json.loads(figures.read_text())
    assert 0 < said["output_error"] < 0.2
    assert said["agreement"] > 0.7
    assert said["float_nodes"] == ["stem"]
    assert said["float_model"]["peak_memory_mb"] > 10
    assert said["recommendation"] in {"int8", "fp32"}
    assert "Recommended here" in result.output


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
@pytest.mark.parametrize("activations", ["u8", "s8"])
def test_each_method_and_activation_type_gives_a_network_that_runs(tiny, pictures, method, activations):
    """Every choice of the command line makes a quantised network."""
    _run(tiny, pictures, "--method", method, "--activations", activations)
    network = onnx.load(open_model_folder(default_target(tiny)).onnx_path)
    zero_points = {t.data_type for t in network.graph.initializer if "zero_point" in t.name}
    assert (onnx.TensorProto.UINT8 in zero_points) == (activations == "u8")
    assert onnx.TensorProto.INT8 in zero_points


@pytest.mark.parametrize(("choice", "narrow"), [("dense", {"dense", "prediction"}), ("none", set())])
def test_seven_bit_weights_stay_within_seven_bits(tiny, pictures, choice, narrow):
    """With `dense`, weights that sum over channels reach 64 at most; the depthwise ones use all 8 bits."""
    _run(tiny, pictures, "--seven-bit", choice)
    network = onnx.load(open_model_folder(default_target(tiny)).onnx_path)
    largest = {
        tensor.name.removesuffix("/w_quantized"): int(np.abs(numpy_helper.to_array(tensor).astype(int)).max())
        for tensor in network.graph.initializer
        if tensor.name.endswith("/w_quantized")
    }
    assert largest["depthwise"] > 64
    assert {name for name in largest if largest[name] <= 64} == narrow


def test_accuracy_is_reported_where_there_are_labels(tiny, pictures, tmp_path):
    """With labels.csv both models are judged by it, over all its pictures."""
    files = sorted(pictures.rglob("*.png"))
    rows = [f"{path.relative_to(pictures)},{i % 10}" for i, path in enumerate(files)]
    (pictures / "labels.csv").write_text("\n".join(["file,class_index", *rows]) + "\n")
    figures = tmp_path / "figures.json"
    result = _run(tiny, pictures, "--data", str(pictures), "--json", str(figures))
    said = json.loads(figures.read_text())
    assert said["metric"] == "top1"
    assert said["pictures"] == 12
    model = Model.load(tiny)
    right = [model.predict(cv2.imread(str(p)))[0].class_id[0] == i % 10 for i, p in enumerate(files)]
    assert said["float_model"]["accuracy"] == pytest.approx(np.mean(right))
    assert "accuracy (top1)" in result.output


def test_an_existing_folder_is_replaced_only_by_force(tiny, pictures):
    """A second run refuses and says how to insist."""
    _run(tiny, pictures)
    with pytest.raises(ConfigError, match="--force"):
        _run(tiny, pictures)
    assert _run(tiny, pictures, "--force").exit_code == 0


def test_a_damaged_calibration_picture_is_named_and_nothing_is_written(tiny, pictures):
    """A broken file stops the run with its name; no half-made model folder stays."""
    (pictures / "05b.jpg").write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(SourceError, match=r"05b\.jpg"):
        _run(tiny, pictures)
    assert not default_target(tiny).exists()


def test_an_empty_calibration_folder_says_what_it_wants(tiny, tmp_path):
    """No picture is an error that lists the kinds of file."""
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match=r"holds no picture.*\.png"):
        _run(tiny, tmp_path / "none")


def test_a_network_that_is_none_is_a_model_error(tiny, pictures):
    """A folder whose file is damaged is the model folder's fault."""
    (tiny / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="sha256"):
        _run(tiny, pictures)


def test_classifiers_keep_the_stem_float_and_detectors_far_more():
    """The default of either task, told from the graph."""
    graph = _tiny_network().graph
    assert {"stem"} == float_nodes(graph, FloatLayers.SENSITIVE, locates=False)
    assert {"stem"} == float_nodes(graph, FloatLayers.ENDS, locates=False)
    left = {node.name for node in graph.node} - float_nodes(graph, FloatLayers.SENSITIVE, locates=True)
    assert left == {"dense"}


def test_the_ends_of_a_detector_are_what_is_around_its_quantised_layers():
    """The stem with what is behind it, the prediction and what follows; a classifier's, the stem alone."""
    graph = _tiny_network().graph
    assert float_nodes(graph, FloatLayers.ENDS, locates=True) == {
        "stem",
        "stem/relu",
        "prediction",
        "pool",
        "logits",
    }
    assert float_nodes(graph, FloatLayers.NONE, locates=True) == set()


def test_a_free_batch_that_is_resized_can_be_quantised(tmp_path, pictures):
    """A resized batch of unknown length is still the batch: what is added to it is of the same length."""
    model = _tiny_network()
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    model.graph.initializer.append(scales)
    at = next(index for index, node in enumerate(model.graph.node) if node.name == "prediction")
    source = model.graph.node[at].input[0]
    for offset, node in enumerate(
        [
            helper.make_node("Resize", [source, "", "scales"], ["larger"], "larger", mode="linear"),
            helper.make_node(
                "MaxPool", ["larger"], ["smaller"], "smaller", kernel_shape=[2, 2], strides=[2, 2]
            ),
            helper.make_node("Add", ["smaller", source], ["both"], "both"),
        ]
    ):
        model.graph.node.insert(at + offset, node)
    model.graph.node[at + 3].input[0] = "both"
    onnx.save(model, tmp_path / "net.onnx")
    manifest = Manifest(
        name="tiny",
        version="1",
        task=CLASSIFICATION.name,
        input=Input(height=SIDE, width=SIDE),
        output=Output(decoder="logits"),
    )
    shown = folder_pictures(pictures, 4)
    quantize_onnx(tmp_path / "net.onnx", tmp_path / "int8.onnx", manifest, Recipe(), shown, Silent())
    runtime = open_runtime(tmp_path / "int8.onnx", SessionConfig(threads=1))
    assert runtime.run([np.zeros((3, 3, SIDE, SIDE), np.float32)])[0].shape == (3, 10)


def test_dense_weights_leave_out_depthwise_and_float_layers():
    """Only quantised layers that sum over channels are narrowed, along their output channels."""
    assert dense_weights(_tiny_network().graph, {"prediction"}) == {"stem/w": 0, "dense/w": 0}


def test_excluded_nodes_are_found_by_regular_expression():
    """A pattern finds nodes anywhere in their names."""
    assert excluded_nodes(_tiny_network().graph, ["^stem", "pool"]) == {"stem", "stem/relu", "pool"}


@pytest.mark.parametrize(("pattern", "said"), [("blocks", "finds no node"), ("(", "regular expression")])
def test_a_pattern_that_excludes_nothing_is_an_error(pattern, said):
    """A typing mistake does not silently quantise what should stay float."""
    with pytest.raises(ConfigError, match=said):
        excluded_nodes(_tiny_network().graph, [pattern])


def test_nameless_nodes_get_names_that_can_be_excluded():
    """Exports without node names are named by kind and place."""
    network = _tiny_network(names=False)
    name_nodes(network)
    assert [node.name for node in network.graph.node][:3] == ["Conv_0", "Relu_1", "Conv_2"]


def test_pictures_are_spread_over_the_folder_and_limited(pictures):
    """A limit takes pictures from all over the folder, not its first ones."""
    assert [p.name for p in folder_pictures(pictures, 4)] == ["00.png", "06.png", "01.png", "07.png"]
    assert len(folder_pictures(pictures, 100)) == 12


def test_the_reader_gives_ranges_one_after_the_other(pictures):
    """Each range ends with a None, and all ranges together give every picture once."""
    found = folder_pictures(pictures, 12)
    reader = PictureReader(found, "image", Input(height=SIDE, width=SIDE), Silent())
    given_per_range = []
    for start in range(0, 12, 4):
        reader.set_range(start, start + 4)
        given_per_range.append(len(list(iter(reader.get_next, None))))
    assert given_per_range == [4, 4, 4]
    assert reader.get_next() is None


def test_a_chunk_holds_the_memory_bound():
    """The activations of a chunk stay below the budget, and a huge network goes one picture at a time."""
    graph = onnx.shape_inference.infer_shapes(_tiny_network()).graph
    assert chunk_of(graph, 12) == 12
    huge = helper.make_tensor_value_info("huge", onnx.TensorProto.FLOAT, ["batch", HISTOGRAM_BUDGET_BYTES])
    graph.value_info.append(huge)
    assert chunk_of(graph, 12) == 1


@pytest.mark.parametrize(
    ("figures", "choice", "because"),
    [
        ((2.0, 0.95), "int8", "2.00 times"),
        ((1.01, 0.95), "fp32", "not faster"),
        ((0.6, 1.0, 0.8, 0.8), "fp32", "not faster"),
        ((2.0, 0.5), "fp32", "agree with FP32 on 0.500"),
        ((2.0, 0.95, 0.8, 0.7), "fp32", "falls from 0.800 to 0.700"),
        ((2.0, 0.7, 0.8, 0.79), "int8", "2.00 times"),
    ],
)
def test_int8_is_recommended_only_where_it_is_faster_and_still_right(figures, choice, because):
    """No gain, or answers that are too bad, mean FP32, and the sentence says which; labels know best."""
    recommendation, reason = recommend(*figures)
    assert recommendation == choice
    assert because in reason


def test_a_quantised_model_is_not_quantised_again(tiny, pictures):
    """It is said in these words, and nothing is written."""
    _run(tiny, pictures)
    made = default_target(tiny)
    with pytest.raises(ModelError, match="quantised already"):
        _run(made, pictures)
    assert not default_target(made).exists()


def test_few_calibration_pictures_are_remarked_on(tiny, pictures):
    """Twelve pictures say little about the ranges, sixteen are let pass."""
    assert "12 pictures alone" in _run(tiny, pictures).output
    for index in range(4):
        (pictures / f"more{index}.png").write_bytes((pictures / "00.png").read_bytes())
    assert "alone" not in _run(tiny, pictures, "--force").output


@given(st.lists(st.integers(-100, 100), min_size=4, max_size=40), st.integers(1, 5))
def test_relative_error_added_in_parts_is_that_of_the_whole(values, parts):
    """Accumulated over pictures, the figure is RMS error over standard deviation of all outputs."""
    reference = np.array([*values, 1000], np.float32)
    other = reference + np.sin(reference)
    error = RelativeError()
    for a, b in zip(np.array_split(reference, parts), np.array_split(other, parts), strict=True):
        error.add([a], [b])
    expected = np.sqrt(np.mean((reference - other) ** 2.0)) / reference.std(dtype=np.float64)
    assert error.value == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_recipe_is_read_back_as_it_was_written(tiny, pictures):
    """The folder says how it was made."""
    import msgspec

    _run(tiny, pictures, "--exclude", "^pool$", "--seven-bit", "none")
    text = (default_target(tiny) / "recipe.json").read_bytes()
    recipe = msgspec.json.decode(text, type=Recipe)
    assert recipe.exclude == ("^pool$",)
    assert recipe.seven_bit.value == "none"
