"""Which boxes count: classes that are wanted at all, and from which confidence on each is reported."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from spillover.common.types import Detections, Prediction, SeenBy
from spillover.edge.tracking.stage import Shown

Kept = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """The boxes of one camera that are reported. Predictions without boxes pass unchanged."""

    usual: float
    """Confidence from which boxes are reported, where their class has none of its own."""
    by_class: Mapping[int, float] = field(default_factory=dict)
    classes: frozenset[int] = frozenset()
    """Classes that are wanted; empty: all."""

    @property
    def least(self) -> float:
        """The lowest confidence from which any box is reported."""
        return min((self.usual, *self.by_class.values()))

    def wanted(self, prediction: Prediction) -> Prediction:
        """The boxes of wanted classes, whatever their confidence: what policy and tracks see."""
        if not self.classes or (boxes := prediction.boxes) is None:
            return prediction
        return _only(boxes, self._is_wanted(boxes))

    def reported(self, prediction: Prediction) -> Prediction:
        """Of those, the boxes of enough confidence."""
        wanted = self.wanted(prediction)
        return wanted if (boxes := wanted.boxes) is None else _only(boxes, self._enough(boxes))

    def shown(self, shown: Shown) -> Shown:
        """The result without tracks that only the edge has seen and whose class wants more confidence.

        And without those of classes that are wanted no longer, as after a reload.
        """
        boxes, marks = shown.prediction.boxes, shown.tracks
        if boxes is None or marks is None or not (self.by_class or self.classes):
            return shown
        by_cloud = np.array([mark.confirmed_by is SeenBy.CLOUD for mark in marks], np.bool_)
        kept = (self._enough(boxes) | by_cloud) & self._is_wanted(boxes)
        if kept.all():
            return shown
        tracks = tuple(mark for mark, stays in zip(marks, kept, strict=True) if stays)
        return replace(shown, prediction=boxes[kept], tracks=tracks)

    def _is_wanted(self, boxes: Detections) -> Kept:
        return np.isin(boxes.class_id, list(self.classes)) | (not self.classes)

    def _enough(self, boxes: Detections) -> Kept:
        least = [self.by_class.get(number, self.usual) for number in boxes.class_id.tolist()]
        kept: Kept = boxes.confidence >= np.array(least, np.float32)
        return kept


def _only(boxes: Detections, kept: Kept) -> Detections:
    return boxes if kept.all() else boxes[kept]
