"""Decoders against slow, plain computations of the same formulas; suppression is class-wise."""

import functools
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spillover.common.errors import ModelError
from spillover.common.geometry import FrameTransform
from spillover.common.model.calibration import Calibration
from spillover.common.model.decoders import decoder_for
from spillover.common.model.manifest import (
    Colour,
    Input,
    Manifest,
    Output,
    Resize,
    file_sha256,
    write_manifest,
)
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks import TASKS
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Classification, Detections, Prediction

CLASSES = 4
Box = tuple[float, float, float, float, float, int]


def manifest(decoder: str, **output: float) -> Manifest:
    """A manifest of a 64x96 network."""
    return Manifest(
        name="tiny",
        version="1",
        task=DETECTION.name,
        input=Input(height=64, width=96),
        output=Output(decoder=decoder, **output),  # type: ignore[arg-type]
        sha256="0" * 64,
    )


WHOLE = FrameTransform(1, 1, 0, 0, 96, 64)


def decoded(decoder: str, output: np.ndarray, **settings: float) -> Prediction:
    """What the decoder of that name says of one output."""
    task = next(task for task in TASKS.values() if decoder in task.heads)
    return decoder_for(manifest(decoder, **settings), task)([output], WHOLE)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two xyxy boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def suppressed(boxes: list[Box], threshold: float, iou_threshold: float) -> list[Box]:
    """Greedy non-maximum suppression inside each class, written plainly; clipped to 96x64 at the end."""
    kept: list[Box] = []
    for box in sorted((b for b in boxes if b[4] >= threshold), key=lambda b: -b[4]):
        if all(other[5] != box[5] or iou(box, other) <= iou_threshold for other in kept):
            kept.append(box)
    limits = (96, 64, 96, 64)
    return [
        (*(min(max(v, 0), limit) for v, limit in zip(box[:4], limits, strict=True)), *box[4:])  # type: ignore[misc]
        for box in kept
    ]


def centred(cx: float, cy: float, w: float, h: float, scores: list[float]) -> Box:
    """A box from its centre and size, with its best class."""
    best = int(np.argmax(scores))
    return (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, scores[best], best)


def agree(found: Detections, expected: list[Box]) -> None:
    """Both say the same boxes, in the same order."""
    assert len(found) == len(expected)
    assert (np.diff(found.confidence) <= 0).all()
    if expected:
        np.testing.assert_allclose(found.xyxy, [box[:4] for box in expected], atol=1e-2)
        np.testing.assert_allclose(found.confidence, [box[4] for box in expected], rtol=1e-4)
        assert found.class_id.tolist() == [box[5] for box in expected]


@pytest.mark.parametrize("seed", range(5))
def test_yolox_is_the_papers_formula(seed: int) -> None:
    """The boxes are xy = (o + cell) * stride, wh = exp(o) * stride, score = objectness * class."""
    random = np.random.default_rng(seed)
    cells = [(8, y, x) for y in range(8) for x in range(12)]
    cells += [(16, y, x) for y in range(4) for x in range(6)] + [
        (32, y, x) for y in range(2) for x in range(3)
    ]
    rows = random.uniform(0, 1, (len(cells), 5 + CLASSES)).astype(np.float32)
    rows[:, :4] = random.normal(0, 0.7, (len(cells), 4))
    boxes = []
    for (stride, y, x), row in zip(cells, rows.tolist(), strict=True):
        centre = (row[0] + x) * stride, (row[1] + y) * stride
        size = math.exp(row[2]) * stride, math.exp(row[3]) * stride
        boxes.append(centred(*centre, *size, [row[4] * score for score in row[5:]]))
    found = decoded("yolox", rows, confidence_threshold=0.3)
    agree(found, suppressed(boxes, 0.3, 0.45))


@pytest.mark.parametrize("seed", range(5))
def test_fastestdet_is_its_authors_formula(seed: int) -> None:
    """The boxes are centre = (tanh(d) + cell) / grid, size = sigmoid(o), score = obj^0.6 * class^0.4."""
    random = np.random.default_rng(seed)
    planes = random.uniform(0, 1, (5 + CLASSES, 4, 6)).astype(np.float32)
    planes[1:5] = random.normal(-1, 1, (4, 4, 6))
    boxes = []
    for y in range(4):
        for x in range(6):
            o = planes[:, y, x].tolist()
            centre = (math.tanh(o[1]) + x) / 6 * 96, (math.tanh(o[2]) + y) / 4 * 64
            size = 96 / (1 + math.exp(-o[3])), 64 / (1 + math.exp(-o[4]))
            boxes.append(centred(*centre, *size, [o[0] ** 0.6 * score**0.4 for score in o[5:]]))
    found = decoded("fastestdet", planes, confidence_threshold=0.4)
    agree(found, suppressed(boxes, 0.4, 0.45))


@pytest.mark.parametrize("seed", range(5))
def test_yolov8_boxes_are_final(seed: int) -> None:
    """Planes cx, cy, w, h in input pixels and one score a class."""
    random = np.random.default_rng(seed)
    planes = random.uniform(0, 1, (4 + CLASSES, 50)).astype(np.float32)
    planes[:4] = random.uniform(4, 60, (4, 50))
    boxes = [centred(*column[:4], column[4:]) for column in planes.T.tolist()]
    found = decoded("yolov8", planes, confidence_threshold=0.5)
    agree(found, suppressed(boxes, 0.5, 0.45))


@pytest.mark.parametrize("seed", range(5))
def test_yolov5_multiplies_objectness_and_class(seed: int) -> None:
    """Rows cx, cy, w, h in input pixels, objectness, one score a class."""
    random = np.random.default_rng(seed)
    rows = random.uniform(0, 1, (60, 5 + CLASSES)).astype(np.float32)
    rows[:, :4] = random.uniform(4, 60, (60, 4))
    boxes = [centred(*row[:4], [row[4] * score for score in row[5:]]) for row in rows.tolist()]
    found = decoded("yolov5", rows, confidence_threshold=0.4)
    agree(found, suppressed(boxes, 0.4, 0.45))


@pytest.mark.parametrize("seed", range(5))
def test_end2end_boxes_are_taken_as_they_are(seed: int) -> None:
    """Rows left, top, right, bottom, score, class: nothing is suppressed, empty rows are none."""
    random = np.random.default_rng(seed)
    rows = np.zeros((30, 6), np.float32)
    low, size = random.uniform(0, 40, (20, 2)), random.uniform(4, 20, (20, 2))
    rows[:20] = np.column_stack([low, low + size, random.uniform(0, 1, 20), random.integers(0, CLASSES, 20)])
    rows[20, 4] = np.nan
    found = decoded("end2end", rows, confidence_threshold=0.3)
    expected = sorted((tuple(row) for row in rows[:20].tolist() if row[4] >= 0.3), key=lambda row: -row[4])
    agree(found, [(*row[:5], int(row[5])) for row in expected])
    assert len(decoded("end2end", rows, confidence_threshold=0.0)) == 20


@given(
    st.lists(
        st.tuples(
            st.floats(-400, 400, width=32),
            st.floats(-400, 400, width=32),
            st.floats(1, 400, width=32),
            st.floats(1, 400, width=32),
            st.integers(1, 999),
            st.integers(0, CLASSES - 1),
        ),
        max_size=12,
        unique_by=lambda box: box[4],
    )
)
@settings(deadline=None)
def test_suppression_keeps_classes_apart(raw: list[tuple[float, float, float, float, int, int]]) -> None:
    """A box never suppresses one of another class, wherever they lie, outside the picture too."""
    planes = np.zeros((4 + CLASSES, len(raw)), np.float32)
    boxes = []
    for column, (cx, cy, w, h, score, class_id) in enumerate(raw):
        scores = [0.0] * CLASSES
        scores[class_id] = score / 1000
        planes[:, column] = [cx, cy, w, h, *scores]
        boxes.append(centred(cx, cy, w, h, scores))
    near = [(iou(a, b), a, b) for a in boxes for b in boxes if a is not b and a[5] == b[5]]
    if any(abs(value - 0.45) < 1e-3 for value, _, _ in near):
        return  # too close to the threshold for float32
    found = decoded("yolov8", planes, confidence_threshold=0.0005)
    agree(found, suppressed(boxes, 0.0005, 0.45))


NANODET_CELLS = [(8, 8, 12), (16, 4, 6), (32, 2, 3)]
BINS = 11


def nanodet_outputs(random: np.random.Generator) -> list[np.ndarray]:
    """Scores at three strides, then sides; of a 64x96 network with `CLASSES` classes."""
    cells = [rows * columns for _, rows, columns in NANODET_CELLS]
    scores = [random.uniform(0, 1, (count, CLASSES)).astype(np.float32) for count in cells]
    return scores + [random.normal(0, 2, (count, 4 * BINS)).astype(np.float32) for count in cells]


@pytest.mark.parametrize("seed", range(3))
def test_nanodet_sides_are_the_expectation_of_their_bins(seed: int) -> None:
    """A side is sum(i * softmax(bins)[i]) * stride from the middle of its cell; scores are final."""
    outputs = nanodet_outputs(np.random.default_rng(seed))
    boxes: list[Box] = []
    for level, (stride, _, columns) in enumerate(NANODET_CELLS):
        for cell, (scores, bins) in enumerate(zip(outputs[level], outputs[3 + level], strict=True)):
            sides = []
            for logits in bins.reshape(4, BINS).tolist():
                odds = [math.exp(value) for value in logits]
                sides.append(stride * sum(i * odd for i, odd in enumerate(odds)) / sum(odds))
            x, y = (cell % columns + 0.5) * stride, (cell // columns + 0.5) * stride
            best = int(scores.argmax())
            place = (x - sides[0], y - sides[1], x + sides[2], y + sides[3])
            boxes.append((*place, float(scores[best]), best))
    found = decoder_for(manifest("nanodet", confidence_threshold=0.8), DETECTION)(outputs, WHOLE)
    agree(found, suppressed(boxes, 0.8, 0.45))


ANCHORS = np.array([[0.1, 0.1, 0.5, 0.4], [0.3, 0.2, 0.9, 0.8], [0.0, 0.5, 0.25, 1.0]], np.float32)


@pytest.mark.parametrize("order", ["logits first", "boxes first", "boxes with an axis of one class"])
def test_ssd_boxes_are_offsets_from_their_anchors(order: str) -> None:
    """Centre = anchor's + offset * its size / 10, size = exp(offset / 5) * its size; class 0 is none."""
    random = np.random.default_rng(3)
    logits, encoded = random.normal(0, 2, (3, 1 + CLASSES)), random.normal(0, 2, (3, 4))
    logits[:, 0] = 9.0
    boxes: list[Box] = []
    for (left, top, right, bottom), scores, (y, x, h, w) in zip(
        ANCHORS.tolist(), logits.tolist(), encoded.tolist(), strict=True
    ):
        width, height = right - left, bottom - top
        centre = (left + right) / 2 + x / 10 * width, (top + bottom) / 2 + y / 10 * height
        size = math.exp(w / 5) * width, math.exp(h / 5) * height
        chances = [1 / (1 + math.exp(-score)) for score in scores[1:]]
        boxes.append(centred(centre[0] * 96, centre[1] * 64, size[0] * 96, size[1] * 64, chances))
    outputs = [logits.astype(np.float32), encoded.astype(np.float32)]
    if order != "logits first":
        outputs.reverse()
    if order == "boxes with an axis of one class":
        outputs[0] = outputs[0][:, None]
    found = decoder_for(manifest("ssd", confidence_threshold=0.5), DETECTION, ANCHORS)(outputs, WHOLE)
    agree(found, suppressed(boxes, 0.5, 0.45))


def test_ssd_without_anchors_is_the_models_fault() -> None:
    """A model.yaml that names no anchors is told which key is missing."""
    with pytest.raises(ModelError, match=r"tiny: decoder ssd needs output\.anchors"):
        decoder_for(manifest("ssd"), DETECTION)([np.zeros((3, 5)), np.zeros((3, 4))], WHOLE)


@pytest.mark.parametrize(
    ("decoder", "shapes"),
    [
        ("nanodet", [(96, 4), (24, 4), (6, 4), (96, 44), (24, 44)]),
        ("nanodet", [(96, 4), (24, 4), (7, 4), (96, 44), (24, 44), (6, 44)]),
        ("nanodet", [(96, 4), (24, 4), (6, 4), (96, 43), (24, 44), (6, 44)]),
        ("nanodet", [(96, 4), (24, 4), (6, 4), (96, 0), (24, 44), (6, 44)]),
        ("ssd", [(3, 5), (3, 4), (3, 4)]),
        ("ssd", [(4, 5), (4, 4)]),
        ("ssd", [(3, 5), (3, 3)]),
        ("ssd", [(3, 1), (3, 4)]),
    ],
)
def test_outputs_that_do_not_fit_together_are_the_models_fault(
    decoder: str, shapes: list[tuple[int, ...]]
) -> None:
    """Too few outputs, other cells, sides of no whole number of bins: a ModelError each."""
    outputs = [np.zeros(shape, np.float32) for shape in shapes]
    with pytest.raises(ModelError, match="tiny"):
        decoder_for(manifest(decoder), DETECTION, ANCHORS)(outputs, WHOLE)


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("at", range(6))
def test_wild_numbers_of_several_outputs_do_not_get_out(wild: float, at: int) -> None:
    """One output of NaN or infinity leaves the other boxes alone; what comes out is finite."""
    outputs = nanodet_outputs(np.random.default_rng(0))
    outputs[at][:5] = wild
    found = decoder_for(manifest("nanodet"), DETECTION)(outputs, WHOLE)
    assert len(found) > 10
    assert np.isfinite(found.xyxy).all()
    assert (found.confidence <= 1).all()
    pair = [np.zeros((3, 5), np.float32), np.zeros((3, 4), np.float32)]
    pair[at % 2][0] = wild
    found = decoder_for(manifest("ssd"), DETECTION, ANCHORS)(pair, WHOLE)
    assert len(found) >= 2
    assert np.isfinite(found.xyxy).all()
    assert (found.confidence <= 1).all()


def test_a_damaged_networks_numbers_do_not_get_out() -> None:
    """NaN and infinity in the output never reach a box."""
    wild = np.full((9, 6), 1e30, np.float32)
    wild[4:] = np.nan
    assert len(decoded("end2end", wild)) == 0
    rows = np.full((8 * 12 + 4 * 6 + 2 * 3, 9), np.nan, np.float32)
    rows[:50] = 1e30
    found = decoded("yolox", rows)
    assert np.isfinite(found.xyxy).all()


def _outputs(decoder: str) -> tuple[list[np.ndarray], list[np.ndarray]]:  # noqa: PLR0911 - one a decoder
    """Outputs of three sure boxes far apart, and views (3, N) of what places them, and of their scores."""
    zeros = functools.partial(np.zeros, dtype=np.float32)
    match decoder:
        case "yolox":
            rows = zeros((8 * 12 + 4 * 6 + 2 * 3, 9))
            rows[[0, 30, 60], 4:6] = 0.9
            return [rows], [rows[0:61:30, :4], rows[0:61:30, 4:6]]
        case "fastestdet":
            planes = zeros((9, 4, 6))
            planes[[[0], [5]], 0, ::2] = 0.9
            return [planes], [planes[1:5, 0, ::2].T, planes[0:6:5, 0, ::2].T]
        case "yolov8":
            planes = zeros((8, 20))
            planes[0, ::8], planes[1:4, ::8], planes[4, ::8] = [10, 40, 80], 9, 0.9
            return [planes], [planes[:4, ::8].T, planes[4:5, ::8].T]
        case "yolov5":
            rows = zeros((20, 9))
            rows[::8, 0], rows[::8, 1:4], rows[::8, 4:6] = [10, 40, 80], 9, 0.9
            return [rows], [rows[::8, :4], rows[::8, 4:6]]
        case "end2end":
            rows = zeros((20, 6))
            rows[::8] = [9, 9, 19, 19, 0.9, 1]
            return [rows], [rows[::8, :4], rows[::8, 4:5]]
        case "nanodet":
            outputs = [zeros((n, CLASSES)) for n in (96, 24, 6)] + [zeros((n, 4 * BINS)) for n in (96, 24, 6)]
            outputs[0][::40, 1] = 0.9
            return outputs, [outputs[3][::40], outputs[0][::40, 1:2]]
        case _:
            logits, boxes = np.full((3, 5), -9, np.float32), zeros((3, 4))
            logits[:, 2] = 9
            return [logits, boxes], [boxes, logits[:, 2:3]]


@pytest.mark.parametrize("part", [0, 1], ids=["place", "score"])
@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("decoder", list(DETECTION.heads))
def test_a_box_that_is_not_finite_is_left_out_and_counted(decoder: str, wild: float, part: int) -> None:
    """One wild number of three boxes costs one box, and the answer says so; a score may be out of range."""
    outputs, parts = _outputs(decoder)
    decode = decoder_for(manifest(decoder, confidence_threshold=0.5), DETECTION, ANCHORS)
    whole = decode(outputs, WHOLE)
    assert (len(whole), whole.not_finite) == (3, 0)
    parts[part][1, -1] = wild
    found = decode(outputs, WHOLE)
    assert np.isfinite(found.xyxy).all()
    assert np.isfinite(found.confidence).all()
    if np.isnan(wild):
        assert (len(found), found.not_finite) == (2, 1)
    elif part == 0:  # a size may be squashed into bounds
        assert len(found) + found.not_finite == 3
    else:  # no score, or one above 1
        assert len(found) + found.not_finite >= 2


@pytest.mark.parametrize("decoder", ["softmax", "logits"])
@pytest.mark.parametrize("wild", [np.nan, np.inf])
def test_a_class_without_a_probability_is_the_models_fault(decoder: str, wild: float) -> None:
    """No frame is answered with NaN; a logit of minus infinity is a class that cannot be."""
    with pytest.raises(ModelError, match="tiny: a probability is NaN or infinite"):
        decoded(decoder, np.array([0.1, wild, 0.3], np.float32))
    assert decoded("logits", np.array([1.0, -np.inf], np.float32)).top_confidence == 1.0


def test_at_most_max_detections_come_out() -> None:
    """The best are kept when there are more than the manifest allows."""
    planes = np.full((5, 300), 1, np.float32)
    planes[0] = np.arange(300) * 3
    planes[4] = np.linspace(0.3, 0.9, 300)
    found = decoded("yolov8", planes, max_detections=7)
    assert len(found) == 7
    assert found.confidence[0] == pytest.approx(0.9)


@pytest.mark.parametrize("decoder", ["yolox", "fastestdet", "yolov8", "yolov5", "end2end"])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (1, 2, 3, 4)])
def test_an_output_of_another_head_is_the_models_fault(decoder: str, shape: tuple[int, ...]) -> None:
    """A shape that does not fit is a ModelError, never an index error."""
    with pytest.raises(ModelError, match="tiny"):
        decoded(decoder, np.zeros(shape, np.float32))


def test_an_unknown_decoder_names_the_known_ones() -> None:
    """The error lists what may be written."""
    with pytest.raises(
        ModelError,
        match="'psychic' is unknown; for detection there are end2end, fastestdet, nanodet, ssd, yolov5, "
        "yolov8, yolox",
    ):
        decoder_for(manifest("psychic"), DETECTION)


@given(st.lists(st.floats(-500, 500, width=32), min_size=1, max_size=20))
def test_classes_come_by_descending_probability_and_sum_to_one(logits: list[float]) -> None:
    """Softmax of any logits is finite, sums to one and is sorted."""
    found = decoded("logits", np.array(logits, np.float32))
    assert isinstance(found, Classification)
    assert found.probability.sum() == pytest.approx(1, rel=1e-4)
    assert (np.diff(found.probability) <= 0).all()
    assert sorted(found.class_id.tolist()) == list(range(len(logits)))


@pytest.mark.parametrize(
    ("file", "decoder", "spec", "iou_threshold", "expected"),
    [
        (
            "fastestdet_352.onnx",
            "fastestdet",
            Input(height=352, width=352, colour=Colour.BGR, std=(255.0,) * 3),
            0.45,
            0.179,
        ),
        (
            "yolox_nano_416.onnx",
            "yolox",
            Input(height=416, width=416, colour=Colour.BGR, resize=Resize.LETTERBOX),
            0.65,
            0.295,
        ),
        (
            "nanodet_g_416.onnx",
            "nanodet",
            Input(
                height=416,
                width=416,
                colour=Colour.BGR,
                resize=Resize.LETTERBOX_CENTRE,
                pad_value=0,
                mean=(103.53, 116.28, 123.675),
                std=(57.375, 57.12, 58.395),
            ),
            0.6,
            0.301,
        ),
    ],
)
def test_real_detectors_find_what_they_should(
    shared_dir: Path,
    tmp_path: Path,
    file: str,
    decoder: str,
    spec: Input,
    iou_threshold: float,
    expected: float,
) -> None:
    """Mean average precision on labelled pictures is the network's, so no formula is a little wrong."""
    from spillover.lab.data.labelled import CocoTruth
    from spillover.lab.pairs.evaluate.detection import mean_average_precision

    (tmp_path / "model.onnx").write_bytes((shared_dir / "models" / file).read_bytes())
    output = Output(decoder=decoder, confidence_threshold=0.01, iou_threshold=iou_threshold)
    digest = file_sha256(tmp_path / "model.onnx")
    write_manifest(
        tmp_path,
        Manifest(name="m", version="1", task=DETECTION.name, input=spec, output=output, sha256=digest),
    )
    model = Model.load(tmp_path, SessionConfig(threads=2))
    folder = shared_dir / "data" / "coco-dev"
    truth = json.loads((folder / "instances.json").read_text())
    boxes = CocoTruth(truth, tuple(image["id"] for image in truth["images"]))
    predictions = [
        model.predict(cv2.imread(str(folder / "images" / image["file_name"])))[0] for image in truth["images"]
    ]
    assert mean_average_precision(boxes, predictions).ap == pytest.approx(expected, abs=0.005)


def test_a_calibrated_detector_tells_the_same_boxes_on_the_other_scale() -> None:
    """Places, classes and order are the network's; confidences and the threshold are calibrated."""
    random = np.random.default_rng(1)
    planes = random.uniform(0, 1, (5 + CLASSES, 4, 6)).astype(np.float32)
    planes[1:5] = random.normal(-1, 1, (4, 4, 6))
    calibration = Calibration(offset=-1.0, scale=2.0)
    whole = decoded("fastestdet", planes, confidence_threshold=0.0)
    told = decoded("fastestdet", planes, confidence_threshold=0.4, calibration=calibration)
    assert isinstance(whole, Detections)
    assert isinstance(told, Detections)
    expected = calibration.apply(whole.confidence)
    kept = expected >= 0.4
    assert 0 < kept.sum() < len(whole)
    np.testing.assert_allclose(told.confidence, expected[kept], rtol=1e-4)
    np.testing.assert_allclose(told.xyxy, whole.xyxy[kept], atol=1e-3)
    assert told.class_id.tolist() == whole.class_id[kept].tolist()
