"""Networks that `lab split` was not made for: each is split rightly, or refused with what is wrong."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from spillover.common.errors import ModelError
from spillover.common.model.manifest import (
    MODEL_FILE,
    Input,
    Manifest,
    Output,
    file_sha256,
    write_manifest,
)
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.lab.split.plan import SplitOptions, split_model
from spillover.lab.terminal import Silent
from tests.support.splitting import SIDE, coloured_pictures

PICTURE = ["N", 3, SIDE, SIDE]
CLASSES = ["N", 3]


def _weights(name, *shape):
    return numpy_helper.from_array(
        (np.random.default_rng(0).normal(size=shape) * 0.3).astype(np.float32), name
    )


CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
WEIGHTS = [_weights("w1", 8, 3, 3, 3), _weights("w2", 3, 8)]
BODY = [
    helper.make_node("Conv", ["x", "w1"], ["c1"], **CONV),
    helper.make_node("Relu", ["c1"], ["r1"]),
    helper.make_node("GlobalAveragePool", ["r1"], ["p"]),
    helper.make_node("Flatten", ["p"], ["f"]),
    helper.make_node("Gemm", ["f", "w2"], ["y"], transB=1),
]


def _folder(tmp_path, nodes, inputs=None, outputs=None, weights=WEIGHTS):
    """A model folder with a network of these nodes."""

    def values(shapes):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in shapes.items()]

    graph = helper.make_graph(
        nodes, "odd", values(inputs or {"x": PICTURE}), values(outputs or {"y": CLASSES}), weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder = tmp_path / "odd" / "1"
    folder.mkdir(parents=True)
    onnx.save(model, folder / MODEL_FILE)
    manifest = Manifest(
        name="odd",
        version="1",
        task=CLASSIFICATION.name,
        sha256=file_sha256(folder / MODEL_FILE),
        input=Input(height=SIDE, width=SIDE, std=(64.0, 64.0, 64.0)),
        output=Output(decoder="logits"),
    )
    write_manifest(folder, manifest)
    return folder


def _split(folder):
    options = SplitOptions(max_loss=0.2, threads=1, rounds=1)
    return split_model(folder, coloured_pictures(), options, Silent()).plan


def _cuts(folder):
    return {seam.tensor for cut in _split(folder).cuts for seam in cut.seams}


def test_a_network_of_open_height_and_width_is_split_at_the_manifests(tmp_path):
    """Its shapes are known once a picture's are."""
    folder = _folder(tmp_path, BODY, inputs={"x": ["N", 3, "H", "W"]})
    assert _cuts(folder) == {"f"}


def test_two_outputs_are_both_behind_every_cut(tmp_path):
    """An output in the middle of the network: no cut behind it, as the tail could not give it."""
    folder = _folder(tmp_path, BODY, outputs={"y": CLASSES, "r1": ["N", 8, SIDE // 2, SIDE // 2]})
    assert _cuts(folder) == {"c1"}


def test_two_inputs_are_refused(tmp_path):
    """The edge has one picture."""
    nodes = [*BODY[:-1], helper.make_node("Add", ["f", "z"], ["g"])]
    nodes.append(helper.make_node("Gemm", ["g", "w2"], ["y"], transB=1))
    with pytest.raises(ModelError, match="one input can be split, it has 2"):
        _split(_folder(tmp_path, nodes, inputs={"x": PICTURE, "z": ["N", 8]}))


def test_the_picture_in_another_form_is_no_cut(tmp_path):
    """Flattened pixels are pixels: what is sent as features has passed a layer at least."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
    ]
    with pytest.raises(ModelError, match="no 3 float32 tensors or fewer"):
        _split(_folder(tmp_path, nodes, weights=[_weights("w", 3, 3 * SIDE * SIDE)]))


def test_networks_within_a_network_are_refused_by_name(tmp_path):
    """What an If reads from outside is not among its inputs; a cut could tear it apart."""

    def branch(operator):
        out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["c1"], ["out"])], operator, [], [out])

    nodes = [
        BODY[0],
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["bright"]),
        helper.make_node("If", ["bright"], ["r1"], then_branch=branch("Relu"), else_branch=branch("Neg")),
        *BODY[2:],
    ]
    zero = numpy_helper.from_array(np.float32(0), "zero")
    with pytest.raises(ModelError, match=r"networks within a network \(If\)"):
        _split(_folder(tmp_path, nodes, weights=[*WEIGHTS, zero]))


def test_half_precision_inside_is_no_place_to_cut(tmp_path):
    """Features are float32; a network that computes in float16 has none to offer."""
    half = [numpy_helper.from_array(numpy_helper.to_array(w).astype(np.float16), w.name) for w in WEIGHTS]
    nodes = [
        helper.make_node("Cast", ["x"], ["xh"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["xh", "w1"], ["c1"], **CONV),
        *BODY[1:4],
        helper.make_node("Gemm", ["f", "w2"], ["yh"], transB=1),
        helper.make_node("Cast", ["yh"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(ModelError, match="float32 tensors"):
        _split(_folder(tmp_path, nodes, weights=half))


def test_an_input_of_unknown_rank_is_refused(tmp_path):
    """By the model itself, too, naming what the manifest wants."""
    folder = _folder(tmp_path, BODY, inputs={"x": None})
    with pytest.raises(ModelError, match="float32 tensors or fewer"):
        _split(folder)
    with pytest.raises(ModelError, match=r"input is \[\], model.yaml says"):
        Model.load(folder, SessionConfig(threads=1))
