"""Streaming accuracy: what is newest at each instant against the truth of that instant.

M. Li, Y. Wang and D. Ramanan, "Towards Streaming Perception" (ECCV 2020, arXiv 2005.10420): an answer counts
from when it is given until the next one, so a slow answer is judged against a world that has moved on.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from spillover.common.tasks.detection import DETECTION
from spillover.common.types import NO_BOXES, Detections
from spillover.lab.pairs.evaluate.detection import MAX_DETECTIONS
from spillover.lab.pairs.video.clip import Floats
from spillover.lab.pairs.video.labels import Truth
from spillover.lab.pairs.video.play import Output

COUNTED_FROM = 0.3
"""Boxes below this confidence count on neither side, as in `common.tasks.agreement`."""
_ROUNDING_S = 1e-9
_WHOLE_AREA = [0, 1e10]


class Given(Protocol):
    """Something that was said of a frame."""

    @property
    def number(self) -> int:
        """Of the frame."""
        ...

    @property
    def given_s(self) -> float:
        """When it was said."""
        ...


G = TypeVar("G", bound=Given)


def newest_at(times_s: Iterable[float], outputs: Sequence[G]) -> list[G | None]:
    """For each instant, in order, the output of the newest frame of which something had been said by then.

    None before the first output. Of one frame the last word counts.
    """
    given = sorted(outputs, key=lambda output: (output.given_s, output.number))
    newest: G | None = None
    shown: list[G | None] = []
    next_ = 0
    for at_s in times_s:
        while next_ < len(given) and given[next_].given_s <= at_s + _ROUNDING_S:
            if newest is None or given[next_].number >= newest.number:
                newest = given[next_]
            next_ += 1
        shown.append(newest)
    return shown


def shown_at(times_s: Iterable[float], outputs: Sequence[Output]) -> list[Detections]:
    """For each instant the boxes of the newest output; none before the first."""
    return [one.boxes if one is not None else NO_BOXES for one in newest_at(times_s, outputs)]


def f1_of(shown: Sequence[Detections], truth: Truth) -> Floats:
    """F1 of each frame at IoU 0.5, (N,); 1 where there is nothing and nothing is shown."""
    return np.array(
        [
            DETECTION.agreement(truth.judged(boxes), true, COUNTED_FROM)
            for boxes, true in zip(shown, truth.boxes, strict=True)
        ]
    )


class Precision:
    """AP at IoU 0.5 against one truth, by COCO's evaluation."""

    def __init__(self, truth: Truth) -> None:
        boxes = [true.above(COUNTED_FROM) for true in truth.boxes]
        rows = _rows(boxes)
        annotations = [
            row | {"id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
            for number, row in enumerate(rows, 1)
        ]
        self._classes = sorted({row["category_id"] for row in rows})
        self._instances: dict[str, Any] = {
            "images": [{"id": number} for number in range(len(boxes))],
            "annotations": annotations,
            "categories": [{"id": class_id, "name": str(class_id)} for class_id in self._classes],
        }

    def ap50(self, shown: Sequence[Detections]) -> float | None:
        """Over all frames; None where the truth has no box."""
        if not self._classes:
            return None
        results = [row for row in _rows(shown) if row["category_id"] in self._classes]
        if not results:
            return 0.0
        from faster_coco_eval import COCO, COCOeval_faster

        known = COCO(self._instances)
        evaluation = COCOeval_faster(known, known.loadRes(results), "bbox", print_function=_silent)
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [_WHOLE_AREA], ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
        precision = evaluation.eval["precision"]
        return float(precision[precision > -1].mean())


def _rows(boxes: Sequence[Detections]) -> list[dict[str, Any]]:
    """COCO's results, of which each picture's number is its place."""
    found = []
    for image_id, of_frame in enumerate(boxes):
        xywh = np.concatenate([of_frame.xyxy[:, :2], of_frame.xyxy[:, 2:] - of_frame.xyxy[:, :2]], axis=1)
        columns = xywh.tolist(), of_frame.class_id.tolist(), of_frame.confidence.tolist()
        found += [
            {"image_id": image_id, "category_id": class_id, "bbox": bbox, "score": score}
            for bbox, class_id, score in zip(*columns, strict=True)
        ]
    return found


def _silent(*_: object) -> None:
    """The library prints its progress by default."""
