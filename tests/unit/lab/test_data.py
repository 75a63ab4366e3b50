"""Labelled sets: three forms are read, and what is wrong with one is named."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.errors import SourceError
from common.model.manifest import Task
from lab.data.labelled import ClassLabels, CocoTruth, open_labelled_set

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four small pictures without labels."""
    for i, rgb in enumerate(PIXELS):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rgb[:, :, ::-1])
    return tmp_path


def test_a_folder_with_labels_csv(folder: Path) -> None:
    """Pictures come in the order of the rows, in BGR, with their classes."""
    (folder / "labels.csv").write_text("file,class_index,name\n2.png,7,x\n0.png,3,y\n")
    data = open_labelled_set(folder)
    assert data.task is Task.CLASSIFICATION
    assert isinstance(data.truth, ClassLabels)
    assert data.truth.class_id.tolist() == [7, 3]
    np.testing.assert_array_equal(data.pictures[0].image(), PIXELS[2][:, :, ::-1])


def test_an_npz_of_arrays(tmp_path: Path) -> None:
    """RGB arrays become BGR pictures."""
    np.savez(tmp_path / "set.npz", x=PIXELS, y=np.arange(4))
    data = open_labelled_set(tmp_path / "set.npz")
    np.testing.assert_array_equal(data.pictures[3].image(), PIXELS[3][:, :, ::-1])
    assert len({picture.digest() for picture in data.pictures}) == 4


def test_coco_instances(folder: Path) -> None:
    """Pictures come in the order of `images`, here or in images/."""
    (folder / "images").mkdir()
    (folder / "1.png").rename(folder / "images" / "1.png")
    images = [{"id": 9, "file_name": "1.png"}, {"id": 4, "file_name": "0.png"}]
    (folder / "instances.json").write_text(
        json.dumps({"images": images, "annotations": [], "categories": []})
    )
    data = open_labelled_set(folder)
    assert data.task is Task.DETECTION
    assert isinstance(data.truth, CocoTruth)
    assert data.truth.image_ids == (9, 4)
    np.testing.assert_array_equal(data.pictures[0].image(), PIXELS[1][:, :, ::-1])


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("labels.csv", "file,class_index\n", "names no picture"),
        ("labels.csv", "file,class_index\n0.png,cat\n", "line 2"),
        ("labels.csv", "picture,class_index\n0.png,1\n", "line 2"),
        ("labels.csv", "file,class_index\nno.png,1\n", r"no\.png"),
        ("instances.json", "{", "not COCO"),
        ("instances.json", '{"images": []}', "annotations"),
        ("instances.json", '{"images": [{"id": 1, "file_name": "no.png"}]}', r"no\.png"),
        ("other.txt", "", "neither"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, name: str, text: str, named: str) -> None:
    """The error leads to the file and the place in it."""
    (folder / name).write_text(text)
    with pytest.raises(SourceError, match=named):
        open_labelled_set(folder)


def test_a_file_that_is_no_picture_is_named(folder: Path) -> None:
    """Damage is found when the picture is read."""
    (folder / "0.png").write_bytes(b"not a picture")
    (folder / "labels.csv").write_text("file,class_index\n0.png,1\n")
    with pytest.raises(SourceError, match=r"0\.png"):
        open_labelled_set(folder).pictures[0].image()


def test_an_npz_of_another_shape_is_refused(tmp_path: Path) -> None:
    """The error says what was found."""
    np.savez(tmp_path / "set.npz", x=np.zeros((2, 3)), y=np.zeros(2))
    with pytest.raises(SourceError, match="float64"):
        open_labelled_set(tmp_path / "set.npz")
