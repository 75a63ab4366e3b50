"""Draws boxes and text into a picture."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from spillover.common.types import Detections, Image, Prediction, SeenBy, TrackMark

Colour = tuple[int, int, int]
Name = Callable[[int], str]
"""Maps a class to its name."""
WHITE: Colour = (255, 255, 255)
ORANGE: Colour = (0, 140, 255)
GREEN: Colour = (60, 180, 40)
SIDE_COLOURS: Mapping[SeenBy, Colour] = MappingProxyType({SeenBy.EDGE: ORANGE, SeenBy.CLOUD: GREEN})
"""Of a track, by whose model has confirmed it last."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class Pen:
    """A colour (BGR), and how large letters and lines are: 1 suits a picture of some 1,100 lines."""

    colour: Colour
    scale: float


def draw_boxes(picture: Image, prediction: Prediction, name: Name, pen: Pen) -> None:
    """Draw the prediction's boxes, if any, with class and confidence; the most confident are on top."""
    boxes = prediction.boxes
    if boxes is None:
        return
    rows = zip(boxes.xyxy.tolist(), boxes.class_id.tolist(), boxes.confidence.tolist(), strict=True)
    for xyxy, class_id, confidence in reversed(list(rows)):
        left, top, right, bottom = map(round, xyxy)
        cv2.rectangle(
            picture, (left, top), (right, bottom), pen.colour, max(1, round(3 * pen.scale)), cv2.LINE_AA
        )
        label = f"{name(class_id)} {confidence:.2f}"
        height = _size(label, pen.scale)[1]
        draw_text(picture, (left, top - height if top >= height else top), label, pen)


def draw_tracks(
    picture: Image, boxes: Detections, marks: Sequence[TrackMark], name: Name, scale: float
) -> None:
    """Draw tracked boxes in the colour of who confirmed each last, dashed where they were carried."""
    rows = zip(boxes.xyxy.tolist(), boxes.class_id.tolist(), marks, strict=True)
    for xyxy, class_id, mark in reversed(list(rows)):
        left, top, right, bottom = map(round, xyxy)
        pen = Pen(SIDE_COLOURS[mark.confirmed_by], scale)
        width = max(1, round(3 * scale))
        if mark.age_s > 0:
            _dashed(picture, (left, top, right, bottom), pen.colour, width)
        else:
            cv2.rectangle(picture, (left, top), (right, bottom), pen.colour, width, cv2.LINE_AA)
        label = f"{mark.track_id} {name(class_id)}"
        height = _size(label, scale)[1]
        draw_text(picture, (left, top - height if top >= height else top), label, pen)


def _dashed(picture: Image, box: tuple[int, int, int, int], colour: Colour, width: int) -> None:
    """A rectangle of dashes, as long as the gaps between them."""
    left, top, right, bottom = box
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], float)
    for start, end in itertools.pairwise(corners):
        length = float(np.abs(end - start).sum())
        dashes = max(1, round(length / (8 * width)))
        for at in np.arange(dashes) / dashes:
            points = start + (end - start) * np.array([[at], [at + 0.5 / dashes]])
            first, last = ((round(x), round(y)) for x, y in points.tolist())
            cv2.line(picture, first, last, colour, width, cv2.LINE_AA)


def caption(prediction: Prediction, name: Name) -> str:
    """A prediction without boxes in words: its best class. Empty for a prediction with boxes."""
    return (
        ""
        if prediction.boxes is not None
        else f"{name(prediction.top_class)} {prediction.top_confidence:.2f}"
    )


def draw_text(picture: Image, at: tuple[int, int], text: str, pen: Pen) -> None:
    """Draw white text on a filled box whose upper left corner is `at`, moved left at the picture's edge.

    Letters beyond ASCII become question marks, because OpenCV's font has no others.
    """
    text = text.encode("ascii", "replace").decode()
    width, height = _size(text, pen.scale)
    left, top = max(0, min(at[0], picture.shape[1] - width)), at[1]
    cv2.rectangle(picture, (left, top), (left + width, top + height), pen.colour, cv2.FILLED)
    base = (left + height // 6, top + height - height // 4)
    cv2.putText(picture, text, base, _FONT, pen.scale, WHITE, max(1, round(2 * pen.scale)), cv2.LINE_AA)


def _size(text: str, scale: float) -> tuple[int, int]:
    (width, height), below = cv2.getTextSize(text, _FONT, scale, max(1, round(2 * scale)))
    padded = height + below + max(2, height // 3)
    return width + padded // 3, padded
