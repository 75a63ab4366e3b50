"""`lab import` on networks with the shapes of real exports: what it guesses, refuses and decodes."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto

from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.manifest import Colour, Element, Layout, Resize, open_model_folder
from spillover.common.model.session import Model
from spillover.common.types import Classification, Detections
from spillover.lab.models.prepare.cli import import_model
from tests.support.networks import channel_means, scripted, small_yolox

FRAME = np.zeros((720, 1280, 3), np.uint8)
"""Twice as large as a letterbox of 640 pixels, which then has 140 rows of padding above and below."""


def run(*arguments: object) -> str:
    """What the command prints; its errors are raised."""
    result = CliRunner().invoke(import_model, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def imported(source: Path, *arguments: object) -> tuple[Model, str]:
    """The model that the command makes of `source`, and what it prints."""
    told = run(source, "--out", source.parent / "models", "--name", "net", *arguments)
    return Model.load(source.parent / "models" / "net" / "1"), told


def yolov5(path: Path) -> Path:
    """Three rows: two of one object, one that objectness rules out."""
    rows = np.zeros((1, 3, 85), np.float32)
    rows[0, 0, [0, 1, 2, 3, 4, 7]] = 320, 320, 100, 60, 0.9, 0.8
    rows[0, 1, [0, 1, 2, 3, 4, 7]] = 322, 321, 100, 60, 0.9, 0.7
    rows[0, 2, [0, 1, 2, 3, 4, 5]] = 100, 300, 40, 40, 0.2, 1.0
    return scripted(path, (640, 640), rows, (0, 25197, 0))


def yolov8(path: Path, classes: int = 80, notes: Mapping[str, str] | None = None) -> Path:
    """The same two boxes as columns."""
    columns = np.zeros((1, 4 + classes, 2), np.float32)
    columns[0, [0, 1, 2, 3, 4 + min(2, classes - 1)], 0] = 320, 320, 100, 60, 0.72
    columns[0, [0, 1, 2, 3, 4 + min(2, classes - 1)], 1] = 322, 321, 100, 60, 0.63
    return scripted(path, (640, 640), columns, (0, 0, 8398), notes)


def end2end(path: Path) -> Path:
    """The same box, chosen in the graph."""
    rows = np.array([[[270, 290, 370, 350, 0.72, 2]]], np.float32)
    return scripted(path, (640, 640), rows, (0, 299, 0))


def yolox(path: Path) -> Path:
    """The box of the cell 40, 40 of the first level: rows are 80 cells long."""
    rows = np.zeros((1, 3241, 85), np.float32)
    rows[0, 3240, [0, 1, 2, 3, 4, 7]] = 0, 0, np.log(100 / 8), np.log(60 / 8), 0.9, 0.8
    return scripted(path, (640, 640), rows, (0, 5159, 0))


CENTRED = (540.0, 300.0, 740.0, 420.0)
"""100 x 60 pixels around the middle of the input are twice as many around the middle of the frame."""
TOP_LEFT = (540.0, 580.0, 740.0, 700.0)
"""YOLOX has its padding below."""


@pytest.mark.parametrize(
    ("make", "preset", "shape", "box"),
    [
        (yolov5, "yolov5", "[1, 25200, 85]", CENTRED),
        (yolov8, "yolov8", "[1, 84, 8400]", CENTRED),
        (end2end, "end2end", "[1, 300, 6]", CENTRED),
        (yolox, "yolox", "[1, 8400, 85]", TOP_LEFT),
    ],
)
def test_a_detector_is_recognised_and_its_boxes_are_right(
    tmp_path: Path, make, preset: str, shape: str, box: tuple[float, ...]
) -> None:
    """The preset is guessed from the shape and printed; one car of 0.72 lies where it was put."""
    model, told = imported(make(tmp_path / "net.onnx"))
    assert f"Preset: {preset} (" in told
    assert f"guessed from {shape}; --preset names another" in told
    assert "not calibrated" in told
    found, _ = model.predict(FRAME)
    assert isinstance(found, Detections)
    np.testing.assert_allclose(found.xyxy, [box], atol=0.01)
    assert found.confidence == pytest.approx([0.72])
    assert [model.folder.labels[number] for number in found.class_id] == ["car"]


def test_a_fastestdet_is_recognised(tmp_path: Path) -> None:
    """Planes over a grid; it is surer of wrong boxes than others, and reports from 0.6."""
    planes = np.zeros((1, 85, 22, 22), np.float32)
    planes[0, [0, 7], 11, 11] = 0.9, 0.8
    model, told = imported(scripted(tmp_path / "net.onnx", (352, 352), planes))
    assert "Preset: fastestdet (" in told
    assert model.manifest.output.reported_from == 0.6
    found, _ = model.predict(FRAME)
    assert isinstance(found, Detections)
    np.testing.assert_allclose(found.xyxy, [[320, 180, 960, 540]], atol=0.01)
    assert found.confidence == pytest.approx([0.9**0.6 * 0.8**0.4])


def test_the_exporters_own_names_are_taken(tmp_path: Path) -> None:
    """Ultralytics writes the names of the classes into the file."""
    notes = {"names": "{0: 'coot', 1: 'grebe'}", "task": "detect"}
    model, told = imported(yolov8(tmp_path / "net.onnx", 2, notes))
    assert model.folder.labels == ("coot", "grebe")
    assert "Classes: 2: coot ... grebe" in told


@pytest.mark.parametrize(
    "names", ["{0: 'coot', 2: 'grebe'}", "{0: 'one too few'}", "__import__('os')", "{", ""]
)
def test_names_that_do_not_fit_are_not_taken(tmp_path: Path, names: str) -> None:
    """They are no names of these classes. The preset's do not fit either, and that is said."""
    source = yolov8(tmp_path / "net.onnx", 2, {"names": names} if names else None)
    with pytest.raises(ModelError, match=r"\[1, 6, 8400\], which is 2 classes, not the 80 .*--labels"):
        imported(source)


@pytest.mark.parametrize(
    ("make", "preset", "told"),
    [
        (yolov8, "yolox", r"gives \[1, 84, 8400\]; preset yolox expects \[1, 8400, 5 \+ classes\] at 640x640"
         r"; this looks like yolov8: --preset yolov8$"),
        (yolov5, "yolox", r"gives \[1, 25200, 85\]; .*; this looks like yolov5: --preset yolov5$"),
        (yolox, "imagenet", r"imagenet expects \[1, classes\]; this looks like yolox: --preset yolox$"),
        (yolox, "yolov5", r"preset yolov5 expects \[1, 8400 or 25200, 5 \+ classes\]"),
        (end2end, "yolov8", r"gives \[1, 300, 6\]; .*; this looks like end2end"),
        (yolov8, "fastestdet", r"expects \[1, 5 \+ classes, rows, columns\]"),
    ],
)  # fmt: skip
def test_a_wrong_preset_is_refused_by_what_is_wrong(tmp_path: Path, make, preset: str, told: str) -> None:
    """The shape that is there, the one that is expected, and the preset that fits; labels are not blamed."""
    with pytest.raises(ModelError, match=told) as caught:
        imported(make(tmp_path / "net.onnx"), "--preset", preset)
    assert "label" not in str(caught.value)
    assert not (tmp_path / "models").exists()


def test_a_yolox_that_decodes_its_boxes_itself_is_told_apart(tmp_path: Path) -> None:
    """The shape is the same; centres in pixels spread over the picture, offsets in cells do not."""
    rows = np.zeros((1, 8400, 85), np.float32)
    rows[0, :, 0], rows[0, :, 1] = np.tile(np.arange(80) * 8, 105), np.repeat(np.arange(105) * 6, 80)
    rows[0, 40, [0, 1, 2, 3, 4, 7]] = 320, 320, 100, 60, 0.9, 0.8
    source = scripted(tmp_path / "net.onnx", (640, 640), rows)
    with pytest.raises(ModelError, match="are decoded already; this looks like yolox-decoded"):
        imported(source, "--preset", "yolox")
    model, told = imported(source)
    assert "Preset: yolox-decoded (" in told
    found, _ = model.predict(FRAME)
    assert isinstance(found, Detections)
    np.testing.assert_allclose(found.xyxy, [TOP_LEFT], atol=0.01)
    with pytest.raises(ModelError, match=r"are not decoded yet; this looks like yolox: --preset yolox$"):
        imported(yolox(tmp_path / "other.onnx"), "--preset", "yolox-decoded", "--force")


def test_another_size_or_number_of_classes_than_the_presets_is_refused(tmp_path: Path) -> None:
    """A preset for one network of CIFAR-10 takes no picture of 97 x 131, and no seven classes."""
    seven = np.zeros((1, 7), np.float32)
    with pytest.raises(
        ModelError, match=r"131x97; preset cifar-resnet56 .* expects 32x32; .*--preset classifier"
    ):
        imported(scripted(tmp_path / "a.onnx", (97, 131), seven), "--preset", "cifar-resnet56")
    with pytest.raises(ModelError, match=r"\[1, 7\], which is 7 classes; the preset is for 10"):
        imported(scripted(tmp_path / "b.onnx", (32, 32), seven), "--preset", "cifar-resnet56")


def test_a_dynamic_size_is_the_one_that_the_exporter_notes(tmp_path: Path) -> None:
    """Ultralytics writes it into the file; `--size` names another, and without either it is asked for."""
    shape = ("N", 3, "height", "width")
    source = channel_means(tmp_path / "net.onnx", shape, notes={"imgsz": "[24, 32]"})
    options = ("--preset", "classifier", "--scale", 1)
    assert "Pictures: 32x24," in imported(source, *options)[1]
    assert "Pictures: 64x64," in imported(source, *options, "--size", 64, "--force")[1]
    without = channel_means(tmp_path / "other.onnx", shape, notes={"imgsz": "[0, 'x']"})
    with pytest.raises(ConfigError, match="--size"):
        imported(without, *options, "--force")


def test_an_unknown_network_says_what_it_gives(tmp_path: Path) -> None:
    """No preset is made up for it; a mask is no box."""
    with pytest.raises(ModelError, match=r"gives \[1, 9, 7\], which is the output of no network known here"):
        imported(scripted(tmp_path / "a.onnx", (64, 64), np.zeros((1, 9, 7), np.float32)))
    with pytest.raises(ModelError, match="task 'segment', which no preset decodes"):
        imported(yolov8(tmp_path / "b.onnx", 112, {"task": "segment"}))


def test_a_classifier_of_ones_own_must_say_how_its_pictures_are_normalised(tmp_path: Path) -> None:
    """It is in no file, and a guess would give wrong answers in silence."""
    source = channel_means(tmp_path / "net.onnx", (1, 3, 24, 32))
    with pytest.raises(ModelError, match=r"a classifier of 3 classes; .*--preset classifier with --scale"):
        imported(source)
    with pytest.raises(ConfigError, match="--scale 1/255 alone"):
        imported(source, "--preset", "classifier")


@pytest.mark.parametrize("shape", [(1, 3, 24, 32), ("N", 24, 32, 3)])
def test_a_classifier_by_options(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    """(scale * x - mean) / std, in the order of channels that is named, in either layout."""
    source = channel_means(tmp_path / "net.onnx", shape)
    (tmp_path / "names").write_text("blue\ngreen\nred\n")
    model, told = imported(
        source, "--preset", "classifier", "--scale", "1/255", "--mean", "0.5,0.4,0.3", "--std", "0.25",
        "--colour", "bgr", "--resize", "centre_crop", "--crop-fraction", 0.5, "--labels", tmp_path / "names",
    )  # fmt: skip
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[12:36, 16:48] = 51, 102, 255  # the middle half; blue, green, red
    tensor, _ = model.prepare(picture)
    planes = tensor if model.manifest.input.layout is Layout.NCHW else tensor.transpose(2, 0, 1)
    np.testing.assert_allclose(
        planes.mean(axis=(1, 2)), [(0.2 - 0.5) / 0.25, 0.0, (1.0 - 0.3) / 0.25], atol=1e-4
    )
    assert model.manifest.input.resize is Resize.CENTRE_CROP
    found, _ = model.predict(picture)
    assert isinstance(found, Classification)
    assert model.folder.labels[found.class_id[0]] == "red"
    assert "32x24" in told
    assert "(x - 127.5/102/76.5) / 63.75 of pixels 0..255" in told


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 8, 8, 3)])
def test_a_network_of_bytes_gets_bytes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """An input of type uint8 takes pixels as they are; nothing has to be said of them."""
    model, _ = imported(
        channel_means(tmp_path / "net.onnx", shape, TensorProto.UINT8), "--preset", "classifier"
    )
    assert model.manifest.input.element is Element.UINT8
    tensor, _ = model.prepare(np.full((8, 8, 3), (10, 20, 30), np.uint8))
    assert tensor.dtype == np.uint8
    found, _ = model.predict(np.full((8, 8, 3), (10, 20, 30), np.uint8))
    assert isinstance(found, Classification)
    assert found.class_id[0] == 0  # red, the first channel of rgb


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 8, 8, 1)])
def test_a_grey_network_gets_the_luminance(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """One channel: 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601)."""
    source = channel_means(tmp_path / "net.onnx", shape)
    model, _ = imported(source, "--preset", "classifier", "--scale", "1/255")
    assert model.manifest.input.colour is Colour.GREY
    tensor, _ = model.prepare(np.full((20, 20, 3), (200, 100, 50), np.uint8))
    assert tensor.shape == shape[1:]
    assert tensor.mean() * 255 == pytest.approx(0.114 * 200 + 0.587 * 100 + 0.299 * 50, abs=0.6)


def test_half_precision_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """The type is named, and how to export."""
    with pytest.raises(ModelError, match="type FLOAT16; export it with float32 or uint8"):
        imported(channel_means(tmp_path / "net.onnx", (1, 3, 8, 8), TensorProto.FLOAT16))


def test_name_and_version_follow_the_folder_of_all_models(tmp_path: Path) -> None:
    """`--out models` makes models/yolox-nano/1 of yolox_nano.onnx; who names that folder is told."""
    source = small_yolox(tmp_path / "yolox_nano.onnx")
    run(source, "--out", tmp_path / "models")
    assert Model.load(tmp_path / "models" / "yolox-nano" / "1").model_id.name == "yolox-nano"
    with pytest.raises(ConfigError, match=r"yolox-nano/1 follows by itself: --out .*models$"):
        run(source, "--out", tmp_path / "models" / "yolox-nano" / "1")


def test_labelled_pictures_put_a_detectors_confidences_on_a_scale(
    shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastestDet is right in far fewer boxes than it says; calibrated, about as often as it says."""
    monkeypatch.setenv("SPILLOVER_HOME", str(tmp_path / "home"))  # its answers are kept there
    arguments = ("--out", tmp_path, "--name", "net", "--data", shared_dir / "data" / "coco-dev")
    told = run(shared_dir / "models" / "fastestdet_352.onnx", *arguments)
    found = re.search(r"reported from (0\.\d+)\. On the other 89 pictures: F1 (0\.\d+), and (0\.\d+)", told)
    assert found is not None, told
    threshold, f1, before = map(float, found.groups())
    assert f1 > 0.3
    assert before > 0.3  # the preset's own threshold: with 0.25 it is 0.21
    output = open_model_folder(tmp_path / "net" / "1").manifest.output
    assert output.reported_from == threshold
    assert output.confidence_threshold == 0.02
    assert output.calibration is not None
    assert output.calibration.apply(np.array([0.25], np.float32))[0] < 0.1


def test_only_detectors_are_calibrated(shared_dir: Path, tmp_path: Path) -> None:
    """A classifier's import with labelled pictures is refused, and names the option."""
    arguments = ("--out", tmp_path, "--name", "net", "--data", shared_dir / "data" / "coco-dev")
    with pytest.raises(ConfigError, match="--data: a model for classification is not calibrated"):
        run(shared_dir / "models" / "cifar_resnet56.onnx", *arguments)
