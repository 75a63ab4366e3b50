"""Mean average precision of a set, and of mixtures of two models' boxes, computed by faster-coco-eval.

COCO matches boxes to truth within each picture alone. So each model's boxes are matched once, and a mixture
only chooses, picture by picture, whose matches count: milliseconds each.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Prediction
from spillover.lab.data.labelled import CocoTruth

MAX_DETECTIONS = 100
_WHOLE_AREA = [0, 1e10]


@dataclass(frozen=True, slots=True)
class Precision:
    """AP averaged over IoU 0.50:0.95, and AP at IoU 0.50; -1 where there are no true boxes."""

    ap: float
    ap50: float


class MatchedBoxes:
    """One model's boxes, matched to the truth of every picture.

    The ids of the truth's categories are the model's classes; boxes of other classes are left out.
    """

    def __init__(self, truth: CocoTruth, predictions: Sequence[Prediction]) -> None:
        from faster_coco_eval import COCO, COCOeval_faster

        categories = sorted(category["id"] for category in truth.instances["categories"])
        known = COCO(copy.deepcopy(dict(truth.instances)))
        results = known.loadRes(_results(truth, categories, predictions))
        evaluation = COCOeval_faster(known, results, "bbox", print_function=_silent, separate_eval=True)
        evaluation.params.imgIds = sorted(truth.image_ids)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [_WHOLE_AREA], ["all"]
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        self._evaluation = evaluation
        # One opaque entry a category and picture, pictures fastest, in the order of sorted ids.
        entries = np.empty(len(categories) * len(truth.image_ids), object)
        entries[:] = evaluation._evalImgs_cpp  # noqa: SLF001 - the library's own split of evaluate and accumulate
        by_id = np.argsort(np.argsort(truth.image_ids))
        self.entries = entries.reshape(len(categories), -1)[:, by_id]

    def precision(self, entries: npt.NDArray[np.object_]) -> Precision:
        """Precision over `entries` (categories, any number of pictures), mixed from any models' matches."""
        evaluation = copy.copy(self._evaluation)
        evaluation._paramsEval = copy.copy(self._evaluation._paramsEval)  # noqa: SLF001 - as above
        evaluation._paramsEval.imgIds = list(range(entries.shape[1]))  # noqa: SLF001
        evaluation._evalImgs_cpp = entries.ravel().tolist()  # noqa: SLF001
        evaluation.accumulate()
        precision = evaluation.eval["precision"]  # (IoU, recall, category, area, max detections)
        return Precision(_mean_known(precision), _mean_known(precision[0]))


def mean_average_precision(truth: CocoTruth, predictions: Sequence[Prediction]) -> Precision:
    """Precision of one model's boxes over the whole set."""
    matched = MatchedBoxes(truth, predictions)
    return matched.precision(matched.entries)


class BoxMixture:
    """Mean average precision of pictures answered by one model or the other."""

    metric = "map"

    def __init__(
        self,
        truth: CocoTruth,
        edge: Sequence[Prediction],
        cloud: Sequence[Prediction],
        plain: Sequence[Prediction] | None = None,
    ) -> None:
        self._edge = MatchedBoxes(truth, edge)
        self._plain = self._edge if plain is None or plain is edge else MatchedBoxes(truth, plain)
        self._cloud = MatchedBoxes(truth, cloud)

    def __len__(self) -> int:
        return int(self._edge.entries.shape[1])

    def accuracy(self, sent: npt.NDArray[np.bool_], pictures: npt.NDArray[np.intp] | None = None) -> float:
        """AP over IoU 0.50:0.95 of the mixture."""
        return self.precision(sent, pictures).ap

    def gap(self, pictures: npt.NDArray[np.intp] | None = None) -> tuple[float, float]:
        """AP of either model alone; the lower is that of `plain`, where the edge does more than its model."""
        chosen: Any = slice(None) if pictures is None else pictures
        edge, cloud = self._plain.entries[:, chosen], self._cloud.entries[:, chosen]
        return self._edge.precision(edge).ap, self._edge.precision(cloud).ap

    def precision(
        self, sent: npt.NDArray[np.bool_], pictures: npt.NDArray[np.intp] | None = None
    ) -> Precision:
        """Both figures of the mixture, over the numbered `pictures` (repeats allowed) or over all."""
        chosen: Any = slice(None) if pictures is None else pictures
        mixed = np.where(sent, self._cloud.entries[:, chosen], self._edge.entries[:, chosen])
        return self._edge.precision(mixed)

    def reward(self) -> npt.NDArray[np.float64]:
        """For each picture, how far AP of the whole set rises when that picture alone is sent."""
        nothing = np.zeros(len(self), np.bool_)
        base = self.accuracy(nothing)
        rewards = np.empty(len(self))
        for i in range(len(self)):
            alone = nothing.copy()
            alone[i] = True
            rewards[i] = self.accuracy(alone) - base
        return rewards


def _results(
    truth: CocoTruth, categories: Sequence[int], predictions: Sequence[Prediction]
) -> list[dict[str, Any]]:
    judged = frozenset(categories)
    results = []
    for image_id, prediction in zip(truth.image_ids, predictions, strict=True):
        found = DETECTION.own(prediction)
        xywh = np.concatenate([found.xyxy[:, :2], found.xyxy[:, 2:] - found.xyxy[:, :2]], axis=1)
        rows = zip(xywh.tolist(), found.confidence.tolist(), found.class_id.tolist(), strict=True)
        results += [
            {"image_id": image_id, "category_id": class_id, "bbox": bbox, "score": score}
            for bbox, score, class_id in rows
            if class_id in judged
        ]
    return results


def _mean_known(precision: npt.NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else -1.0


def _silent(*_: object) -> None:
    """The library prints its progress by default."""
