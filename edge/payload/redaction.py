"""Hides people, or other classes that the operator names, in every picture before it leaves the device.

It hides the local model's boxes, down to the lowest confidence, and what is tracked: an object that the model
misses on some frames stays hidden where its track is. One that it has never seen is not hidden. Redaction
works on a copy; the frame itself is unchanged. The cloud cannot answer for what it is not shown, so the
edge's own boxes of it join the cloud's answer.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import cv2
import numpy as np

from spillover.common.errors import ConfigError
from spillover.common.model.classes import class_ids
from spillover.common.tasks.base import TaskSpec
from spillover.common.tasks.detection import pairwise_iou
from spillover.common.types import NO_BOXES, Detections, Frame, Image, Prediction
from spillover.edge.config import RedactionConfig, RedactionStyle


class Redact(Protocol):
    """Hides objects of some classes."""

    def __call__(
        self, frame: Frame, seen: Prediction, reported: Prediction, followed: Detections = NO_BOXES
    ) -> Frame:
        """The frame without what the model has `seen` and the boxes of tracks, `followed`.

        Of the hidden boxes those that are `reported` are noted in the frame, for the answer.
        """
        ...


_SAME_OBJECT = 0.45
"""Overlap (IoU) from which two boxes of one class are one object, as for two boxes of one network."""
_BLOCKS = 6
"""Colours that a blurred box keeps along its longer side: a coat's colour remains, a face does not."""


def build_redaction(
    config: RedactionConfig | None,
    labels: Sequence[str],
    task: TaskSpec[Any],
    class_count: int | None = None,
) -> Redact | None:
    """The function that hides the classes that `config` names; None if it names none.

    `class_count` is the number of the model's classes, if known.

    Raises:
        ConfigError: the model gives no boxes, or does not have a named class.
    """
    if config is None or not config.classes:
        return None
    if not task.locates:
        raise ConfigError(
            "redaction.classes: the edge's model gives no boxes; use a detector, or masks, which need none"
        )
    classes = hidden_classes(config, labels, class_count)
    style, margin = config.style, config.margin

    def redact(
        frame: Frame, seen: Prediction, reported: Prediction, followed: Detections = NO_BOXES
    ) -> Frame:
        places = [*_of(seen, classes).xyxy.tolist(), *_of(followed, classes).xyxy.tolist()]
        if not places:
            return frame
        image = frame.image.copy()
        for x0, y0, x1, y1 in places:
            grow_x, grow_y = margin * (x1 - x0), margin * (y1 - y0)
            _hide(image, (x0 - grow_x, y0 - grow_y, x1 + grow_x, y1 + grow_y), style)
        return replace(frame, image=image, hidden=_of(reported, classes))

    return redact


def hidden_classes(
    config: RedactionConfig | None, labels: Sequence[str], class_count: int | None = None
) -> frozenset[int]:
    """The numbers of the classes that `config` names.

    Raises:
        ConfigError: the model does not have one.
    """
    if config is None:
        return frozenset()
    return frozenset(class_ids(config.classes, labels, class_count, "redaction.classes"))


def _of(prediction: Prediction, classes: frozenset[int]) -> Detections:
    """The boxes of some classes."""
    if (boxes := prediction.boxes) is None:
        raise ConfigError("redaction: the model gave no boxes")
    return boxes[np.isin(boxes.class_id, list(classes))]


def with_hidden(answer: Prediction, hidden: Detections) -> Prediction:
    """The cloud's answer with the edge's boxes of what was hidden from it; others than boxes are unchanged.

    What the cloud nevertheless made out, such as a blurred person, is the same object: the edge's box stays.
    """
    if not isinstance(answer, Detections):
        return answer
    same = answer.class_id[:, None] == hidden.class_id[None, :]
    again = (same & (pairwise_iou(answer.xyxy, hidden.xyxy) >= _SAME_OBJECT)).any(axis=1)
    return answer[~again].merged(hidden)


def _hide(image: Image, xyxy: tuple[float, float, float, float], style: RedactionStyle) -> None:
    """Overwrite a box in place, rounded outwards to whole pixels and clipped to the picture."""
    height, width = image.shape[:2]
    x0, y0 = max(0, int(np.floor(xyxy[0]))), max(0, int(np.floor(xyxy[1])))
    x1, y1 = min(width, int(np.ceil(xyxy[2]))), min(height, int(np.ceil(xyxy[3])))
    if x0 >= x1 or y0 >= y1:
        return
    box = image[y0:y1, x0:x1]
    if style is RedactionStyle.FILL:
        box[:] = 0
        return
    shrink = _BLOCKS / max(x1 - x0, y1 - y0)
    small = (max(1, round((x1 - x0) * shrink)), max(1, round((y1 - y0) * shrink)))
    mosaic = cv2.resize(cv2.resize(box, small, interpolation=cv2.INTER_AREA), (x1 - x0, y1 - y0))
    box[:] = mosaic
