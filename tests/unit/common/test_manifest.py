"""Model folders: a good one opens, a bad one says which file and key is at fault."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from spillover.common.errors import ModelError
from spillover.common.model.decoders import decoder_for
from spillover.common.model.manifest import (
    Colour,
    Element,
    Input,
    Manifest,
    Output,
    file_sha256,
    open_model_folder,
    write_manifest,
)
from spillover.common.model.session import Model
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from tests.support.models import colour_classifier


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder whose network is a few bytes; opening one does not load it."""
    (tmp_path / "model.onnx").write_bytes(b"network")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    write_manifest(tmp_path, manifest(tmp_path))
    return tmp_path


def manifest(folder: Path, **changes: object) -> Manifest:
    """A classifier's manifest for the files in `folder`."""
    values: dict[str, object] = {
        "name": "tiny",
        "version": "1",
        "task": CLASSIFICATION.name,
        "input": Input(height=8, width=8),
        "output": Output(decoder="softmax"),
        "sha256": file_sha256(folder / "model.onnx"),
        "labels": "labels.txt",
    }
    return Manifest(**(values | changes))  # type: ignore[arg-type]


def test_what_is_written_is_read_back(folder: Path) -> None:
    """write_manifest and open_model_folder are each other's inverse."""
    opened = open_model_folder(folder)
    assert opened.manifest == manifest(folder)
    assert opened.labels == ("cat", "dog")
    assert str(opened.model_id) == "tiny@1"


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("height: 8", "height: 0", r"input\.height"),
        ("height: 8", "hight: 8", r"input\.hight: .*did you mean input\.height"),
        ("layout: nchw", "layout: sideways", r"input\.layout"),
        ("confidence_threshold: 0.25", "confidence_threshold: 2", r"output\.confidence_threshold"),
        ("name: tiny", "name: ../tiny", r"name"),
        ("task: classification", "task: poetry", r"task"),
        ("task: classification", "tusk: classification", "tusk|task"),
        ("name: tiny", "name: [", "not valid YAML"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(folder: Path, before: str, after: str, named: str) -> None:
    """The error of a bad model.yaml holds the file's path and the key's path."""
    path = folder / "model.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(ModelError, match=named) as caught:
        open_model_folder(folder)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["model.yaml", "model.onnx", "labels.txt"])
def test_an_absent_file_is_named(folder: Path, name: str) -> None:
    """Each of the three files is missed by its name."""
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        open_model_folder(folder)


def test_a_changed_network_is_refused(folder: Path) -> None:
    """A network whose digest is not the manifest's is never loaded."""
    (folder / "model.onnx").write_bytes(b"other network")
    with pytest.raises(ModelError, match="sha256"):
        open_model_folder(folder)


def test_any_network_is_taken_where_no_digest_is_stated(folder: Path) -> None:
    """A model.yaml that was written by hand need not have one; what is opened has that of the file."""
    text = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(
        "".join(f"{line}\n" for line in text.splitlines() if "sha256" not in line)
    )
    (folder / "model.onnx").write_bytes(b"other network")
    assert open_model_folder(folder).manifest.sha256 == file_sha256(folder / "model.onnx")


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"colour": Colour.GREY, "mean": (1.0, 2.0, 3.0)}, "mean: has 3 numbers, but colour grey takes 1"),
        ({"std": (1.0, 2.0)}, "std: has 2 numbers, but colour rgb takes 1 or 3"),
        ({"element": Element.UINT8, "std": (255.0,)}, "uint8 takes pixels as they are"),
    ],
)
def test_numbers_that_do_not_fit_the_channels_are_refused(keys: dict[str, object], named: str) -> None:
    """As many means as channels, or one; none where the network takes bytes."""
    with pytest.raises(ValueError, match=named):
        Input(height=8, width=8, **keys)  # type: ignore[arg-type]


def test_a_zero_std_is_refused() -> None:
    """To divide by it would feed the network infinities."""
    with pytest.raises(ValueError, match="std"):
        Input(height=8, width=8, std=(1.0, 0.0, 1.0))


def test_a_decoder_of_the_other_task_is_refused(folder: Path) -> None:
    """A classifier's outputs read as boxes would be nonsense: the error names decoder and task."""
    with pytest.raises(ModelError, match="'yolox' is for detection, but task is classification"):
        decoder_for(manifest(folder, output=Output(decoder="yolox")), CLASSIFICATION)


@pytest.mark.parametrize(("lines", "fits"), [(3, True), (2, False), (4, False)])
def test_labels_are_as_many_as_the_networks_classes(tmp_path: Path, lines: int, fits: bool) -> None:
    """One line too few or too many would give every class behind it another's name."""
    path = colour_classifier(tmp_path)
    (path / "labels.txt").write_text("name\n" * lines)
    described = open_model_folder(path).manifest
    write_manifest(path, msgspec.structs.replace(described, labels="labels.txt"))
    if fits:
        assert Model.load(path).class_count == lines
        return
    with pytest.raises(ModelError, match=f"{lines} lines, the network 3 classes"):
        Model.load(path)


@pytest.mark.parametrize(
    ("decoder", "shape", "count"),
    [
        ("logits", [1000], 1000),
        ("softmax", [10, 1, 1], 10),
        ("softmax", ["classes"], None),
        ("yolox", [3549, 85], 80),
        ("fastestdet", [85, 22, 22], 80),
        ("yolov8", [84, "cells"], 80),
        ("yolov5", [25200, 85], 80),
        ("end2end", [300, 6], None),
        ("yolov8", ["rows", 8400], None),
        ("yolox", [85], None),
    ],
)
def test_the_number_of_classes_is_read_from_the_networks_shape(
    decoder: str, shape: list[object], count: int | None
) -> None:
    """For each kind of head; a length that the file leaves open is not guessed."""
    heads = CLASSIFICATION.heads | DETECTION.heads
    assert heads[decoder].class_count(shape) == count


def test_anchors_are_read_from_the_folder(folder: Path) -> None:
    """They are stored top, left, bottom, right, as TensorFlow has them, and come out left before top."""
    np.save(folder / "anchors.npy", np.array([[0.1, 0.2, 0.3, 0.4]]))
    output = Output(decoder="ssd", anchors="anchors.npy")
    write_manifest(folder, manifest(folder, task=DETECTION.name, output=output))
    anchors = open_model_folder(folder).anchors
    assert anchors is not None
    np.testing.assert_allclose(anchors, [[0.2, 0.1, 0.4, 0.3]])
    assert anchors.dtype == np.float32


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "anchors.npy: No such file"),
        (np.zeros((3, 5)), "four finite numbers"),
        (np.full((3, 4), np.nan), "four finite numbers"),
        (np.array(["a", "b", "c", "d"]).reshape(1, 4), "four finite numbers"),
        (np.zeros((0,)), "four finite numbers"),
        (np.array([{}] * 4).reshape(1, 4), r"output\.anchors"),
        (b"", r"output\.anchors"),
        (b"no array", r"output\.anchors"),
    ],
)
def test_anchors_that_are_none_are_refused(
    folder: Path, content: np.ndarray | bytes | None, named: str
) -> None:
    """Absent, of another shape, not numbers, or Python objects, which are never unpickled."""
    if isinstance(content, bytes):
        (folder / "anchors.npy").write_bytes(content)
    elif content is not None:
        np.save(folder / "anchors.npy", content)
    output = Output(decoder="ssd", anchors="anchors.npy")
    write_manifest(folder, manifest(folder, task=DETECTION.name, output=output))
    with pytest.raises(ModelError, match=named):
        open_model_folder(folder)


def test_anchors_outside_of_the_folder_are_refused(folder: Path) -> None:
    """As for labels: the file that model.yaml names lies beside it."""
    np.save(folder.parent / "anchors.npy", np.zeros((1, 4)))
    output = Output(decoder="ssd", anchors="../anchors.npy")
    write_manifest(folder, manifest(folder, task=DETECTION.name, output=output))
    with pytest.raises(ModelError, match=r"output\.anchors: '\.\./anchors\.npy' leads out of the folder"):
        open_model_folder(folder)
