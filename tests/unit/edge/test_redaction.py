"""What the operator names is not recognisable in any picture that leaves; everything else is as it was."""

import numpy as np
import pytest

from spillover.common.errors import ConfigError
from spillover.common.tasks.classification import CLASSIFICATION
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections
from spillover.edge.config import RedactionConfig, RedactionStyle
from spillover.edge.payload.redaction import build_redaction
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
    hidden = redact(original, _seen(0))
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
    assert redact(original, _seen(1)) is original


def test_the_margin_widens_and_is_cut_at_the_border():
    """Boxes grow on every side, and those that reach beyond the picture do not fail."""
    redact = build_redaction(
        RedactionConfig(classes=(0,), style=RedactionStyle.FILL, margin=1.0), LABELS, DETECTION
    )
    hidden = redact(_noise(), _seen(0)).image
    assert not hidden[0:64, 0:70].any()
    assert hidden[:, 70:].any()


def test_what_cannot_work_is_refused_at_the_start():
    """A classifier has no boxes, and an unknown label would hide nothing: both are errors, not silences."""
    with pytest.raises(ConfigError, match="no boxes"):
        build_redaction(RedactionConfig(classes=("person",)), LABELS, CLASSIFICATION)
    with pytest.raises(ConfigError, match="cat"):
        build_redaction(RedactionConfig(classes=("cat",)), LABELS, DETECTION)


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
        redact(_noise(), classification(1.0))
