"""Early exits: the fitted layer is the least-squares one, and numpy and ONNX agree on it."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from spillover.common.errors import ModelError
from spillover.common.model.exit import load_exit_info
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import head_path, open_split_plan
from spillover.lab.progress import Silent
from spillover.lab.split.early_exit.build import LINEAR, build_early_exit
from spillover.lab.split.early_exit.fit import Skip, fit_skip, geometry
from spillover.lab.split.early_exit.graphs import linear_graph
from spillover.lab.split.early_exit.linear import fit_linear, pool_of, softmax
from spillover.lab.split.extract import Half
from tests.support.splitting import coloured_pictures, residual_classifier, split_classifier


def test_a_layer_that_is_a_convolution_is_found_again():
    """Targets made by a 3x3 convolution of stride 2: the fit gives the same outputs on new features."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(4, 3, 3, 3)).astype(np.float32)
    truth = Skip(weight, np.ones(4, np.float32), 2, (1, 1), pooled=False)
    sources = [random.normal(size=(3, 9, 9)).astype(np.float32) for _ in range(60)]
    found = fit_skip(sources[:50], [truth.apply(s) for s in sources[:50]], 3, 2, (1, 1))
    for source in sources[50:]:
        assert found.apply(source) == pytest.approx(truth.apply(source), abs=0.2)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((8, 16, 16), (4, 16, 16), (1, (1, 1))),
        ((8, 17, 17), (4, 9, 9), (2, (1, 1))),
        ((8, 4, 4), (4, 9, 9), None),
    ],
)
def test_stride_and_padding_follow_from_the_shapes(source, target, expected):
    """And a target larger than its source cannot be reached."""
    assert geometry(source, target, 3) == expected


@pytest.fixture
def split_folder(tmp_path):
    """A split model."""
    folder = residual_classifier(tmp_path)
    split_classifier(folder)
    return folder


def test_an_exit_answers_and_gives_the_features_of_its_trunk(split_folder, tmp_path):
    """One run of the exit network: a prediction, and exactly what the cut's head would have given."""
    cut = next(c for c in open_split_plan(open_model_folder(split_folder)).cuts if len(c.seams) == 1)
    report = build_early_exit(split_folder, cut.name, tmp_path / "exit", coloured_pictures(32), 0.5, Silent())
    assert report.taken in report.tried
    info = load_exit_info(tmp_path / "exit")
    assert info is not None
    assert (info.head_sha256, info.features) == (cut.head_sha256, (cut.seams[0].tensor,))
    model = Model.load(tmp_path / "exit", SessionConfig(threads=1))
    tensor, _ = model.prepare(coloured_pictures(1)[0].image())
    names = [output.name for output in model.session.get_outputs()]
    features = dict(zip(names, model.run(tensor[None]), strict=True))[cut.seams[0].tensor]
    head = Half(head_path(split_folder, cut.name), threads=1)
    assert features == pytest.approx(head.run([tensor[None]])[0], abs=1e-5)


def test_an_unknown_cut_is_named(split_folder, tmp_path):
    """With those that there are."""
    with pytest.raises(ModelError, match="no cut 'nowhere'"):
        build_early_exit(split_folder, "nowhere", tmp_path / "exit", coloured_pictures(16), 0.5, Silent())


def _classes(count, seed):
    """Features (8, 5, 5) of four classes that differ in where they are bright, and the truth."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, count)
    features = random.normal(size=(count, 8, 5, 5)).astype(np.float32)
    for number, kind in enumerate(truth):
        rows, columns = slice(3 * (kind // 2), 3 + 3 * (kind // 2)), slice(3 * (kind % 2), 3 + 3 * (kind % 2))
        features[number, 0, rows, columns] += 1.5
    return features, truth


def test_a_linear_exit_learns_what_the_network_says():
    """Classes that show in one channel and one corner are told apart on new pictures; ONNX says the same."""
    features, truth = _classes(400, seed=0)
    layer = fit_linear(list(features), list(np.eye(4, dtype=np.float32)[truth]))
    unseen, answers = _classes(200, seed=1)
    logits = np.stack([layer.apply(one) for one in unseen])
    assert np.mean(logits.argmax(axis=1) == answers) > 0.9
    graph = linear_graph(layer, "x", probabilities=True)
    graph.input.extend([helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 5, 5])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert session.run(None, {"x": unseen})[0] == pytest.approx(softmax(logits), abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "kernel", "stride"),
    [((8, 9, 8), (5, 4), (4, 4)), ((8, 1, 1), (1, 1), (1, 1)), ((8,), (), ())],
)
def test_pools_cover_the_whole_picture(shape, kernel, stride):
    """Four parts of it, overlapping where a side is odd; one where it is too small."""
    assert pool_of(shape) == (kernel, stride)


def test_a_linear_exit_is_tried_with_the_others(split_folder, tmp_path):
    """Its folder answers with as many classes as the network has; and is marked in the report."""
    cut = open_split_plan(open_model_folder(split_folder)).cuts[0]
    report = build_early_exit(split_folder, cut.name, tmp_path / "exit", coloured_pictures(64), 2.0, Silent())
    assert report.tried[-1].target == LINEAR
    assert all(0 <= one.agreement <= one.when_sent[0.2] <= one.when_sent[0.4] <= 1 for one in report.tried)
    prediction, _ = Model.load(tmp_path / "exit", SessionConfig(threads=1)).predict(
        coloured_pictures(1)[0].image()
    )
    assert sorted(prediction.class_id) == [0, 1, 2]
