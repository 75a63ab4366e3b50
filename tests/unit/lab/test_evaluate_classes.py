"""Labels and models mean the same classes, or it is said that they do not."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from spillover.common.errors import ModelError, SourceError
from spillover.common.model.manifest import open_model_folder, write_manifest
from spillover.common.types import Detections
from spillover.lab.data.labelled import ClassLabels, CocoTruth, LabelledSet
from spillover.lab.data.pictures import ArrayPicture
from spillover.lab.pairs.evaluate.classes import class_count, judging
from spillover.lab.pairs.evaluate.detection import mean_average_precision
from tests.support.models import centre_detector, colour_classifier

PICTURE = ArrayPicture("p", np.zeros((64, 64, 3), np.uint8))
BOXES = [[10.0 * n, 10.0 * n, 8.0, 8.0] for n in range(3)]
FRUIT = ("apple", "pear", "plum")


def detector(folder: Path, labels: tuple[str, ...] = (), name: str = "centre") -> Path:
    """A model folder of a detector with these labels."""
    path = centre_detector(folder, name)
    if labels:
        (path / "labels.txt").write_text("\n".join(labels) + "\n")
        manifest = open_model_folder(path).manifest
        write_manifest(path, msgspec.structs.replace(manifest, labels="labels.txt"))
    return path


def boxes_of(categories: dict[int, str], boxes: list[int]) -> LabelledSet:
    """One picture with a box of each category in `boxes`."""
    annotations = [
        {"id": n + 1, "image_id": 5, "category_id": c, "bbox": BOXES[n], "area": 64.0, "iscrowd": 0}
        for n, c in enumerate(boxes)
    ]
    named = [{"id": number, "name": name} for number, name in categories.items()]
    instances = {"images": [{"id": 5}], "annotations": annotations, "categories": named}
    return LabelledSet("set", (PICTURE,), CocoTruth(instances, (5,)))


def said(*classes: int) -> Detections:
    """The boxes of `boxes_of`, of these classes of the model."""
    xyxy = np.array([[x, y, x + w, y + h] for x, y, w, h in BOXES[: len(classes)]], np.float32)
    return Detections(
        xyxy, np.linspace(0.9, 0.5, len(classes), dtype=np.float32), np.array(classes, np.int32)
    )


def precision(data: LabelledSet, prediction: Detections) -> float:
    """AP of one prediction."""
    assert isinstance(data.truth, CocoTruth)
    return mean_average_precision(data.truth, [prediction]).ap


@pytest.mark.parametrize(
    "categories",
    [
        {1: "plum", 2: "apple", 3: "pear"},
        {7: "Plum", 40: "APPLE", 41: "pear"},
        {0: "plum", 9: "apple", 10: "fig"},
    ],
)
def test_categories_are_matched_by_name_in_whatever_order_they_are(
    tmp_path: Path, categories: dict[int, str]
) -> None:
    """The model's class 2, a plum, is right wherever the set lists plums; by rank it would be wrong."""
    plum, apple, _ = categories
    data = judging(boxes_of(categories, [plum, apple]), detector(tmp_path, FRUIT))
    assert precision(data, said(2, 0)) == pytest.approx(1)
    assert precision(data, said(0, 1)) == 0


def test_boxes_of_classes_that_the_set_does_not_have_are_left_out(tmp_path: Path) -> None:
    """A set of plums alone says nothing about apples, sure as the model may be of them."""
    data = judging(boxes_of({1: "plum"}, [1]), detector(tmp_path, FRUIT))
    assert precision(data, said(2, 0, 1)) == pytest.approx(1)


def test_what_the_model_does_not_know_counts_as_missed(tmp_path: Path) -> None:
    """A category without a class of its own keeps its boxes, and takes nobody else's number."""
    data = judging(boxes_of({1: "plum", 2: "fig"}, [1, 2]), detector(tmp_path, FRUIT))
    assert precision(data, said(2, 0)) == pytest.approx(0.5)


def test_a_set_of_other_things_is_refused(tmp_path: Path) -> None:
    """No common name means that no figure would mean anything."""
    with pytest.raises(SourceError, match=r"car.*apple"):
        judging(boxes_of({1: "car", 2: "bus", 3: "van"}, [1]), detector(tmp_path, FRUIT))


@pytest.mark.parametrize("number", [0, 1, 90])
def test_without_label_files_the_order_of_ids_decides_where_the_counts_are_equal(
    tmp_path: Path, number: int
) -> None:
    """The detector of one class and a set of one category fit, whatever the category's id is."""
    data = judging(boxes_of({number: "thing"}, [number]), detector(tmp_path))
    assert precision(data, said(0)) == pytest.approx(1)


def test_without_label_files_another_number_of_categories_is_refused(tmp_path: Path) -> None:
    """Which class is which cannot be known; the error says what would help."""
    with pytest.raises(SourceError, match=r"2 categories.*1 classes.*labels file"):
        judging(boxes_of({1: "a", 2: "b"}, [1]), detector(tmp_path))


def test_models_that_number_classes_differently_are_refused(tmp_path: Path) -> None:
    """One could not answer for the other in the field either."""
    edge, cloud = detector(tmp_path, FRUIT, "edge"), detector(tmp_path, FRUIT[::-1], "cloud")
    with pytest.raises(ModelError, match="cannot answer for"):
        judging(boxes_of({1: "plum"}, [1]), edge, cloud)


def test_a_label_beyond_the_models_classes_is_named_with_its_line(tmp_path: Path) -> None:
    """The colour classifier has classes 0 to 2; a 3 is somebody's mistake, and its place is said."""
    truth = ClassLabels(np.array([2, 3]), ("labels.csv, line 2", "labels.csv, line 3"))
    with pytest.raises(SourceError, match=r"labels.csv, line 3: class 3.*0 to 2"):
        judging(LabelledSet("set", (PICTURE, PICTURE), truth), colour_classifier(tmp_path))


def test_a_model_for_another_task_is_refused(tmp_path: Path) -> None:
    """Boxes cannot judge a classifier."""
    with pytest.raises(ModelError, match="task is classification"):
        judging(boxes_of({0: "a"}, [0]), colour_classifier(tmp_path))


@pytest.mark.parametrize(
    ("file", "preset", "count"),
    [
        ("fastestdet_352.onnx", "fastestdet", 80),
        ("yolox_nano_416.onnx", "yolox", 80),
        ("cifar_resnet8.onnx", "cifar-resnet8", 10),
        ("cifar_resnet56.onnx", "cifar-resnet56", 10),
    ],
)
def test_the_number_of_classes_is_read_from_real_networks(
    shared_dir: Path, tmp_path: Path, file: str, preset: str, count: int
) -> None:
    """Without a labels file the shape of the output says it."""
    from spillover.lab.models.prepare.wrap import wrap_onnx

    source, target = shared_dir / "models" / file, tmp_path / "net" / "1"
    wrap_onnx(source, target, preset, name="net", version="1", labels=[])
    folder = open_model_folder(target)
    assert class_count(folder) == count
