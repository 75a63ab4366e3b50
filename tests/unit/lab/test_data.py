"""Labelled sets: three forms are read, and what is wrong with one is named."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from spillover.common.errors import SourceError
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.lab.data.labelled import ClassLabels, CocoTruth, open_labelled_set

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)
BOX = {"image_id": 9, "category_id": 3, "bbox": [1, 1, 2, 3]}
IMAGE = {"id": 9, "file_name": "0.png"}


def coco(**changes: object) -> str:
    """An instances.json of one picture with one box, but for `changes`."""
    whole = {"images": [IMAGE], "annotations": [BOX], "categories": [{"id": 3, "name": "cat"}]}
    return json.dumps(whole | changes)


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
    assert data.task == CLASSIFICATION.name
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
        json.dumps({"images": images, "annotations": [BOX], "categories": [{"id": 3, "name": "cat"}]})
    )
    data = open_labelled_set(folder)
    assert data.task == DETECTION.name
    assert isinstance(data.truth, CocoTruth)
    assert data.truth.image_ids == (9, 4)
    assert data.truth.instances["annotations"] == [
        {"image_id": 9, "category_id": 3, "bbox": [1, 1, 2, 3], "area": 6, "iscrowd": 0, "id": 1}
    ]
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
        ("instances.json", coco(images=[{"id": 9, "file_name": "no.png"}]), r"no\.png"),
        ("instances.json", coco(images=[]), "no images"),
        ("instances.json", coco(images=[IMAGE, IMAGE | {"id": 10}]), r"image 0\.png 2 times"),
        ("instances.json", coco(images=[IMAGE, {"id": 9, "file_name": "1.png"}]), "image id 9 2 times"),
        ("instances.json", coco(categories=[]), "no categories"),
        ("instances.json", coco(annotations=[]), "nothing to find"),
        ("instances.json", coco(annotations=[BOX | {"iscrowd": 1}]), "nothing to find"),
        ("instances.json", coco(annotations=[{"image_id": 9}]), r"annotations\[0\]"),
        ("instances.json", coco(annotations=[BOX, BOX | {"image_id": 8}]), r"annotations\[1\].*image 8"),
        ("instances.json", coco(annotations=[BOX | {"category_id": 8}]), "category 8"),
        ("labels.csv", "file,class_index\n\n0.png,-1\n", "line 3: -1 is no class"),
        ("labels.csv", "file,class_index\n0.png,1.5\n", "line 2"),
        ("labels.csv", "file,class_index\n,1\n", "line 2"),
        ("labels.csv", f"file,class_index\n0.png,{10**30}\n", "line 2"),
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


def test_labels_may_begin_with_a_byte_order_mark(folder: Path) -> None:
    """Spreadsheets write one, and it is no part of the first column's name."""
    (folder / "labels.csv").write_text("file,class_index\n2.png,7\n", encoding="utf-8-sig")
    assert len(open_labelled_set(folder).pictures) == 1
    (folder / "labels.csv").unlink()
    (folder / "instances.json").write_text(coco(), encoding="utf-8-sig")
    assert len(open_labelled_set(folder).pictures) == 1


@pytest.mark.parametrize("name", ["labels.csv", "instances.json"])
def test_labels_in_another_encoding_are_named(folder: Path, name: str) -> None:
    """Bytes that are no UTF-8 are the file's fault, in one sentence."""
    (folder / name).write_bytes("file,class_index\nkäse.png,1\n".encode("latin-1"))
    with pytest.raises(SourceError, match=name):
        open_labelled_set(folder)


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_an_npz_that_is_cut_off_is_named(tmp_path: Path, keep: int) -> None:
    """An empty file, a stump and half a file are all the file's fault."""
    np.savez(tmp_path / "set.npz", x=PIXELS, y=np.arange(4))
    (tmp_path / "set.npz").write_bytes((tmp_path / "set.npz").read_bytes()[:keep])
    with pytest.raises(SourceError, match=r"set\.npz"):
        open_labelled_set(tmp_path / "set.npz")


@pytest.mark.parametrize(
    ("y", "named"),
    [(np.array([0, 1, 2, 0.5]), "float64"), (np.array([0, 1, -3, 0]), r"y\[2\]: -3 is no class")],
)
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, y: np.ndarray, named: str) -> None:
    """A fraction or a negative number is not rounded to some class."""
    np.savez(tmp_path / "set.npz", x=PIXELS, y=y)
    with pytest.raises(SourceError, match=named):
        open_labelled_set(tmp_path / "set.npz")
