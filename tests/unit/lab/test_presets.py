"""Wrapping ONNX files as model folders by preset."""

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper, numpy_helper

from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.manifest import Layout, open_model_folder
from spillover.common.model.session import Model
from spillover.common.tasks.detection import DETECTION
from spillover.lab.models.prepare.cli import import_model
from spillover.lab.models.prepare.presets import PRESETS, read_labels


def _network(path, shape, outputs):
    """A network that means each channel and gives `outputs` numbers: enough to be loaded and decoded."""
    weight = numpy_helper.from_array(np.ones((shape[1] or 3, outputs), np.float32), "weight")
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weight"], ["y"]),
    ]
    dims = [axis or "dynamic" for axis in shape]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", *dims[1:]])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", outputs])
    graph = helper.make_graph(nodes, "means", [x], [y], [weight, axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def _import(*arguments):
    result = CliRunner().invoke(import_model, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_network_is_wrapped_with_its_own_size_and_given_labels(tmp_path):
    """The size comes from the network, the labels from the file, the rest from the preset."""
    source = _network(tmp_path / "net.onnx", (1, 3, 24, 32), 2)
    (tmp_path / "names").write_text("cat\ndog\n")
    options = ["--preset", "imagenet", "--labels", tmp_path / "names", "--out", tmp_path / "m"]
    _import(source, *options, "--version", "3")
    model = Model.load(tmp_path / "m" / "net" / "3")
    assert str(model.model_id) == "net@3"
    assert (model.manifest.input.height, model.manifest.input.width) == (24, 32)
    assert model.folder.labels == ("cat", "dog")


def test_a_dynamic_size_must_be_named(tmp_path):
    """Where the network leaves its size open, --size decides, and its absence is said."""
    source = _network(tmp_path / "net.onnx", (1, 3, 0, 0), 10)
    options = [source, "--preset", "imagenet", "--labels", tmp_path / "names", "--out", tmp_path / "out"]
    (tmp_path / "names").write_text("name\n" * 10)
    with pytest.raises(ConfigError, match="--size"):
        _import(*options)
    _import(*options, "--size", 32)
    assert open_model_folder(tmp_path / "out" / "net" / "1").manifest.input.height == 32


def test_a_preset_that_does_not_fit_is_refused_and_nothing_is_written(tmp_path):
    """The network is run once before its folder appears; a classifier is no YOLOX."""
    source = _network(tmp_path / "net.onnx", (1, 3, 32, 32), 10)
    with pytest.raises(ModelError, match="yolox"):
        _import(source, "--preset", "yolox", "--out", tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("option", ["--name", "--version"])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_made(tmp_path, monkeypatch, option):
    """`--name ../evil` is no name of a model; nothing is written, in the cache folder or beside it."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))
    source = _network(tmp_path / "net.onnx", (1, 3, 32, 32), 10)
    with pytest.raises(ConfigError, match=r"\.\./evil"):
        _import(source, "--preset", "cifar-resnet56", option, "../evil")
    assert list(tmp_path.iterdir()) == [source]


def test_a_file_that_is_no_network_is_named(tmp_path):
    """Whatever is in the file, the error is one of the project's and names it."""
    (tmp_path / "net.onnx").write_bytes(b"<html>")
    with pytest.raises(ModelError, match=r"net\.onnx: not an ONNX network"):
        _import(tmp_path / "net.onnx", "--preset", "yolox", "--out", tmp_path / "out")


def test_an_unknown_preset_lists_the_known_ones(tmp_path):
    """A mistyped preset is a usage error that teaches."""
    source = _network(tmp_path / "net.onnx", (1, 3, 8, 8), 2)
    result = _import(source, "--preset", "yolo")
    assert result.exit_code == 2
    assert "fastestdet" in result.output


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_description(name):
    """Each preset gives an input of the size asked for and, for detectors, the 80 names of COCO."""
    preset = PRESETS[name]
    assert preset.input_for(64, 96).width == 96
    if preset.task == DETECTION.name:
        names = preset.label_names()
        assert (len(names), names[0], names[79]) == (80, "person", "toothbrush")


def test_unreadable_labels_are_named(tmp_path):
    """Labels that are no text are an error that names the file."""
    (tmp_path / "names").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="names"):
        read_labels(tmp_path / "names")


@pytest.mark.parametrize(
    ("file", "preset", "layout"),
    [
        ("fastestdet_352.onnx", "fastestdet", Layout.NCHW),
        ("nanodet_g_416.onnx", "nanodet", Layout.NCHW),
        ("yolox_nano_416.onnx", "yolox", Layout.NCHW),
        ("cifar_resnet8.onnx", "cifar-resnet8", Layout.NHWC),
        ("cifar_resnet56.onnx", "cifar-resnet56", Layout.NCHW),
    ],
)
def test_real_networks_are_wrapped(shared_dir, tmp_path, file, preset, layout):
    """Each real network is recognised, and runs end to end under its preset."""
    told = _import(shared_dir / "models" / file, "--name", "net", "--out", tmp_path).output
    assert f"Preset: {preset} " in told
    model = Model.load(tmp_path / "net" / "1")
    assert model.manifest.input.layout is layout
    assert len(model.folder.labels) in {10, 80}
