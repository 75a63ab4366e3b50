"""What the operator names is not recognisable in any picture that leaves; everything else is as it was."""

import numpy as np
import pytest

from spillover.common.errors import ConfigError
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections
from spillover.edge.config import RedactionConfig, RedactionStyle
from spillover.edge.payload.redaction import build_redaction, with_hidden
from tests.support.edge_values import classification, frame

LABELS = ("person", "dog")
BOX = (10.0, 10.0, 40.0, 40.0)


def _noise(size=(64, 96)):
    plain = frame(size=size)
    rng = np.random.default_rng(0)
    plain.image[:] = rng.integers(0, 255, plain.image.shape, np.uint8)
    return plain


def _seen(*class_id):
    count = len(class_id)
    xyxy = np.tile(np.array(BOX, np.float32), (count, 1))
    return Detections(xyxy, np.full(count, 0.1, np.float32), np.array(class_id, np.int32))


@pytest.mark.parametrize("style", list(RedactionStyle))
def test_named_classes_are_hidden_and_nothing_else_is_touched(style):
    """Inside the box no detail is left; outside every pixel is as it was; the frame itself is not changed."""
    original = _noise()
    before = original.image.copy()
    redact = build_redaction(RedactionConfig(classes=("person",), style=style, margin=0.0), LABELS, DETECTION)
    hidden = redact(original, _seen(0), _seen(0))
    assert np.array_equal(original.image, before)
    outside = np.ones(before.shape[:2], bool)
    outside[10:40, 10:40] = False
    assert np.array_equal(hidden.image[outside], before[outside])
    inside = hidden.image[10:40, 10:40].astype(float)
    # White noise has a standard deviation of 74; a mosaic of its means has little, black has none.
    assert inside.std() < 25
    assert np.abs(np.diff(inside, axis=0)).mean() < 10


def test_other_classes_stay():
    """A class that is not named is not hidden, and costs no copy."""
    original = _noise()
    redact = build_redaction(RedactionConfig(classes=("person",)), LABELS, DETECTION)
    assert redact(original, _seen(1), _seen(1)) is original


def test_the_margin_widens_and_is_cut_at_the_border():
    """Boxes grow on every side, and those that reach beyond the picture do not fail."""
    redact = build_redaction(
        RedactionConfig(classes=(0,), style=RedactionStyle.FILL, margin=1.0), LABELS, DETECTION
    )
    hidden = redact(_noise(), _seen(0), _seen(0)).image
    assert not hidden[0:64, 0:70].any()
    assert hidden[:, 70:].any()


def test_what_cannot_work_is_refused_at_the_start():
    """A classifier has no boxes, and an unknown label would hide nothing: both are errors, not silences."""
    with pytest.raises(ConfigError, match="no boxes"):
        build_redaction(RedactionConfig(classes=("person",)), LABELS, CLASSIFICATION)
    with pytest.raises(ConfigError, match="cat"):
        build_redaction(RedactionConfig(classes=("cat",)), LABELS, DETECTION)
    with pytest.raises(ConfigError, match=r"'persn' \(did you mean person\?\), no 'cat' \(it has person, "):
        build_redaction(RedactionConfig(classes=("persn", "cat")), LABELS, DETECTION)


@pytest.mark.parametrize(
    ("number", "labels", "count"), [(2, LABELS, None), (80, (), 80), (-1, LABELS, None), (-1, (), None)]
)
def test_a_number_that_is_no_class_is_refused(number, labels, count):
    """Whether labels or the network itself tell how many classes there are; below 0 there are never any."""
    with pytest.raises(ConfigError, match=f"no class {number}"):
        build_redaction(RedactionConfig(classes=(number,)), labels, DETECTION, class_count=count)


def test_a_prediction_without_boxes_never_leaves_unhidden():
    """Were the model to answer something else, the frame would not be sent as it is."""
    redact = build_redaction(RedactionConfig(classes=("person",)), LABELS, DETECTION)
    with pytest.raises(ConfigError):
        redact(_noise(), classification(1.0), classification(1.0))


def _boxes(*rows):
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4].copy(), table[:, 4].copy(), table[:, 5].astype(np.int32))


def _told(boxes):
    return [
        (*xyxy, round(float(confidence), 2), int(class_id))
        for xyxy, confidence, class_id in zip(
            boxes.xyxy.tolist(), boxes.confidence, boxes.class_id, strict=True
        )
    ]


def test_what_is_hidden_is_noted_as_far_as_it_is_reported():
    """Every box is hidden, however faint; those that the edge would report go with the frame."""
    redact = build_redaction(RedactionConfig(classes=("person",)), LABELS, DETECTION)
    sure, faint, dog = (2, 2, 9, 9, 0.8, 0), (10, 10, 40, 40, 0.1, 0), (50, 10, 60, 20, 0.9, 1)
    hidden = redact(_noise(), _boxes(dog, sure, faint), _boxes(dog, sure))
    assert _told(hidden.hidden) == [(2, 2, 9, 9, 0.8, 0)]
    assert not np.array_equal(hidden.image[10:40, 10:40], _noise().image[10:40, 10:40])


def test_the_edges_boxes_of_what_is_hidden_join_the_answer():
    """In order of confidence; the cloud's own boxes of other classes and of persons elsewhere stay."""
    dog, elsewhere = (50, 10, 60, 20, 0.9, 1), (80, 0, 90, 30, 0.6, 0)
    person = (10, 10, 40, 40, 0.7, 0)
    told = _told(with_hidden(_boxes(dog, elsewhere), _boxes(person)))
    assert told == [(50, 10, 60, 20, 0.9, 1), (10, 10, 40, 40, 0.7, 0), (80, 0, 90, 30, 0.6, 0)]


def test_a_person_that_the_cloud_makes_out_all_the_same_is_one_person():
    """A blurred person may still look like one: the edge saw it clearly, and its box stays."""
    seen, person = (12, 10, 40, 40, 0.9, 0), (10, 10, 40, 40, 0.7, 0)
    dog_there = (10, 10, 40, 40, 0.5, 1)
    assert _told(with_hidden(_boxes(seen, dog_there), _boxes(person))) == [
        (10, 10, 40, 40, 0.7, 0),
        (10, 10, 40, 40, 0.5, 1),
    ]
    assert len(with_hidden(_boxes(), _boxes(person))) == 1
    assert len(with_hidden(_boxes(seen), _boxes())) == 1


def test_what_is_tracked_is_hidden_where_its_track_is():
    """A frame on which the model misses a person hides it all the same; the answer gets the shown box."""
    redact = build_redaction(RedactionConfig(classes=("person",), margin=0.0), LABELS, DETECTION)
    dog, person = (50, 10, 60, 20, 0.9, 1), (10, 10, 40, 40, 0.6, 0)
    hidden = redact(_noise(), _boxes(dog), _boxes(dog, person), followed=_boxes(dog, person))
    assert not np.array_equal(hidden.image[10:40, 10:40], _noise().image[10:40, 10:40])
    assert np.array_equal(hidden.image[:, 40:], _noise().image[:, 40:])
    assert _told(hidden.hidden) == [(10, 10, 40, 40, 0.6, 0)]
