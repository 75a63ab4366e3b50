"""The table of tasks, and the values that it describes."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spillover.common.errors import InvalidInputError
from spillover.common.tasks import TASKS
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import NO_BOXES, Classification, Detections, Prediction

FLOATS = st.floats(-1e6, 1e6, width=32)


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    """Any prediction of any task."""
    task = draw(st.sampled_from(list(TASKS.values())))
    count = draw(st.integers(task.least_rows, 6))
    return task.prediction(
        **{
            name: draw(
                hnp.arrays(
                    column.dtype,
                    (count, column.width) if column.width > 1 else count,
                    elements=FLOATS if np.dtype(column.dtype).kind == "f" else st.integers(0, 99),
                )
            )
            for name, column in task.columns.items()
        }
    )


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    """Any boxes, by descending confidence."""
    count = draw(st.integers(0, 8))
    confidence = np.sort(draw(hnp.arrays(np.float32, count, elements=st.floats(0, 1, width=32))))[::-1]
    xyxy = draw(hnp.arrays(np.float32, (count, 4), elements=FLOATS))
    return Detections(xyxy, confidence, np.arange(count, dtype=np.int32))


def test_no_two_tasks_share_a_name_that_is_looked_up() -> None:
    """Heads, keys of records, fields of the wire, types and names each lead to one task."""
    tasks = list(TASKS.values())
    heads = [head for task in tasks for head in task.heads]
    for names in (
        heads,
        [task.record_key for task in tasks],
        [task.wire_field for task in tasks if task.wire_field],
        [task.prediction for task in tasks],
    ):
        assert len(set(names)) == len(names) >= 2
    assert [task.name for task in tasks] == list(TASKS)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_columns_are_the_fields_of_the_prediction(task) -> None:
    """None is forgotten on the wire or in a record, and the constructor takes them by these names.

    What a decoder left out is counted where it was decoded, and goes nowhere.
    """
    told = [field.name for field in fields(task.prediction) if field.name != "not_finite"]
    assert told == list(task.columns)
    assert all(len(column) == task.least_rows for column in task.columns_of(task.blank()).values())


@given(predictions())
def test_a_prediction_is_made_again_from_its_columns(prediction: Prediction) -> None:
    """Of flat lists, as they are on the wire and on the disk; values and types are the same."""
    task = next(task for task in TASKS.values() if isinstance(prediction, task.prediction))
    columns = task.columns_of(prediction)
    back = task.columns_of(task.from_columns({name: c.ravel().tolist() for name, c in columns.items()}))
    for name, column in columns.items():
        np.testing.assert_array_equal(back[name], column)
        assert back[name].dtype == column.dtype


@pytest.mark.parametrize(
    "columns",
    [
        {"xyxy": [1, 2, 3], "confidence": [1], "class_id": [1]},
        {"xyxy": [], "confidence": [1], "class_id": [1]},
        {"xyxy": [1, 2, 3, 4], "confidence": [1], "class_id": [1, 2]},
        {"xyxy": [1, 2, 3, float("inf")], "confidence": [1], "class_id": [1]},
        {"xyxy": [1, 2, 3, 4], "confidence": [float("nan")], "class_id": [1]},
    ],
)
def test_columns_that_make_no_prediction_are_refused(columns: dict[str, list[float]]) -> None:
    """They may come from a server that is wrong, or not ours."""
    with pytest.raises(InvalidInputError, match="detection"):
        DETECTION.from_columns(columns)


def test_a_classification_has_a_class() -> None:
    """An empty list is no answer."""
    with pytest.raises(InvalidInputError, match="classification"):
        CLASSIFICATION.from_columns({"class_id": [], "probability": []})


def test_a_task_takes_no_other_tasks_predictions() -> None:
    """A mistake in the code is an error at once, not a wrong number later."""
    with pytest.raises(TypeError, match="Detections is no prediction of task classification"):
        CLASSIFICATION.own(NO_BOXES)


@given(detections(), st.data())
def test_a_mask_and_the_same_numbers_choose_the_same_boxes(boxes: Detections, data: st.DataObject) -> None:
    """All three arrays are cut alike, in order."""
    mask = data.draw(hnp.arrays(np.bool_, len(boxes)))
    for chosen in (boxes[mask], boxes[np.flatnonzero(mask)]):
        assert chosen.class_id.tolist() == np.flatnonzero(mask).tolist()
        np.testing.assert_array_equal(chosen.xyxy, boxes.xyxy[mask])
        np.testing.assert_array_equal(chosen.confidence, boxes.confidence[mask])
    assert len(boxes[:2]) == min(2, len(boxes))


@given(detections(), st.floats(0, 1, width=32))
def test_boxes_above_a_confidence_are_all_of_at_least_that(boxes: Detections, confidence: float) -> None:
    """The threshold itself is reported; where nothing is cut nothing is copied."""
    above = boxes.above(confidence)
    assert len(above) == sum(float(c) >= confidence for c in boxes.confidence)
    assert (above.confidence >= confidence).all()
    assert (above is boxes) == (len(above) == len(boxes))


def test_a_class_is_reported_whatever_the_threshold() -> None:
    """A classifier has an answer for every frame."""
    unsure = Classification(np.zeros(1, np.int32), np.full(1, 0.1, np.float32))
    assert unsure.above(0.9) is unsure


@pytest.mark.parametrize(
    ("boxes", "confidences", "classes"), [(2, 1, 1), (1, 2, 1), (1, 1, 2), (0, 1, 1), (1, 0, 0)]
)
def test_arrays_of_different_lengths_are_no_detections(boxes: int, confidences: int, classes: int) -> None:
    """Boxes would get each other's classes."""
    with pytest.raises(ValueError, match="boxes of shape"):
        Detections(
            np.zeros((boxes, 4), np.float32), np.zeros(confidences, np.float32), np.zeros(classes, np.int32)
        )
