"""Streaming accuracy: what is newest at each instant against the truth of that instant.

M. Li, Y. Wang and D. Ramanan, "Towards Streaming Perception" (ECCV 2020, arXiv 2005.10420): an answer counts
from when it is given until the next one, so a slow answer is judged against a world that has moved on.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from spillover.common.tasks.detection import DETECTION
from spillover.common.types import NO_BOXES, Detections
from spillover.lab.data.labelled import CocoTruth
from spillover.lab.pairs.evaluate.detection import mean_average_precision
from spillover.lab.pairs.video.clip import Floats
from spillover.lab.pairs.video.labels import Truth
from spillover.lab.pairs.video.play import Output

COUNTED_FROM = 0.3
"""Boxes below this confidence count on neither side, as in `common.tasks.agreement`."""
_ROUNDING_S = 1e-9


def newest_at(times_s: Floats, outputs: Sequence[Output]) -> list[Detections]:
    """For each instant the boxes of the newest frame of which something had been said by then.

    Nothing has been said before the first output. Of one frame the last word counts.
    """
    given = sorted(outputs, key=lambda output: (output.given_s, output.number))
    newest: Output | None = None
    shown, next_ = [], 0
    for at_s in times_s:
        while next_ < len(given) and given[next_].given_s <= at_s + _ROUNDING_S:
            if newest is None or given[next_].number >= newest.number:
                newest = given[next_]
            next_ += 1
        shown.append(newest.boxes if newest is not None else NO_BOXES)
    return shown


def f1_of(shown: Sequence[Detections], truth: Truth) -> Floats:
    """F1 of each frame at IoU 0.5, (N,); 1 where there is nothing and nothing is shown."""
    return np.array(
        [
            DETECTION.agreement(truth.judged(boxes), true, COUNTED_FROM)
            for boxes, true in zip(shown, truth.boxes, strict=True)
        ]
    )


def average_precision(shown: Sequence[Detections], truth: Truth) -> float | None:
    """AP at IoU 0.5 over all frames; None where the truth has no box."""
    boxes = [true.above(COUNTED_FROM) for true in truth.boxes]
    annotations: list[dict[str, Any]] = []
    for image_id, true in enumerate(boxes, 1):
        for xyxy, class_id in zip(true.xyxy.tolist(), true.class_id.tolist(), strict=True):
            left, top, right, bottom = xyxy
            width, height = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_id,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    if not annotations:
        return None
    classes = sorted({annotation["category_id"] for annotation in annotations})
    image_ids = tuple(range(1, len(boxes) + 1))
    instances = {
        "images": [{"id": image_id} for image_id in image_ids],
        "annotations": annotations,
        "categories": [{"id": class_id, "name": str(class_id)} for class_id in classes],
    }
    ap50 = mean_average_precision(CocoTruth(instances, image_ids), list(shown)).ap50
    return None if ap50 < 0 else ap50
