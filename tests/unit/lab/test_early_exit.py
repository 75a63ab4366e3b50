"""Early exits: the fitted layer is the least-squares one, and numpy and ONNX agree on it."""

import numpy as np
import pytest

from spillover.common.errors import ModelError
from spillover.common.model.exit import load_exit_info
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import head_path, open_split_plan
from spillover.lab.split.early_exit.exits import build_early_exit
from spillover.lab.split.early_exit.skip import Skip, fit_skip, geometry
from spillover.lab.split.extract import Half
from spillover.lab.terminal import Silent
from tests.support.splitting import coloured_pictures, residual_classifier, split_classifier


def test_a_layer_that_is_a_convolution_is_found_again():
    """Targets made by a 3x3 convolution of stride 2: the fit gives the same outputs on new features."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(4, 3, 3, 3)).astype(np.float32)
    truth = Skip(weight, np.ones(4, np.float32), 2, (1, 1), pooled=False)
    sources = [random.normal(size=(3, 9, 9)).astype(np.float32) for _ in range(60)]
    fitted = fit_skip(sources[:50], [truth.apply(s) for s in sources[:50]], 3, 2, (1, 1))
    for source in sources[50:]:
        assert fitted.apply(source) == pytest.approx(truth.apply(source), abs=0.2)


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
    names = [spec.name for spec in model.outputs]
    features = dict(zip(names, model.run(tensor[None]), strict=True))[cut.seams[0].tensor]
    head = Half(head_path(split_folder, cut.name), threads=1)
    assert features == pytest.approx(head.run([tensor[None]])[0], abs=1e-5)


def test_an_unknown_cut_is_named(split_folder, tmp_path):
    """With those that there are."""
    with pytest.raises(ModelError, match="no cut 'nowhere'"):
        build_early_exit(split_folder, "nowhere", tmp_path / "exit", coloured_pictures(16), 0.5, Silent())


def test_every_exit_is_judged_by_its_agreement(split_folder, tmp_path):
    """The more of the frames are sent of which an exit is least sure, the more answers are the network's."""
    cut = open_split_plan(open_model_folder(split_folder)).cuts[0]
    report = build_early_exit(split_folder, cut.name, tmp_path / "exit", coloured_pictures(64), 2.0, Silent())
    assert report.tried
    for tried in report.tried:
        assert 0 <= tried.agreement <= tried.when_sent[0.2] <= tried.when_sent[0.4] <= 1
