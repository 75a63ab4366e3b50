"""Pairs of edge and cloud predictions whose right fit is known."""

import numpy as np
import numpy.typing as npt

from spillover.common.types import Classification, Detections, Prediction
from spillover.edge.policy.gain import EdgeSide
from spillover.lab.data.labelled import ClassLabels, CocoTruth, LabelledSet
from spillover.lab.data.pictures import ArrayPicture
from spillover.lab.pairs.fit.pair import Pair

SIDE = EdgeSide("e@1", "0" * 64, 0.1)


def classifications(count: int) -> tuple[list[Prediction], list[Prediction], npt.NDArray[np.int64]]:
    """An edge that is often wrong when it best class 0, and a cloud that is never wrong."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, count)
    edge: list[Prediction] = []
    for label in truth:
        best = 0 if label == 1 and random.random() < 0.4 else label
        order = [best, *(c for c in range(3) if c != best)]
        edge.append(Classification(np.array(order, np.int32), np.array([0.7, 0.2, 0.1], np.float32)))
    cloud: list[Prediction] = [
        Classification(
            np.roll(np.arange(3), -int(t)).astype(np.int32), np.array([0.9, 0.05, 0.05], np.float32)
        )
        for t in truth
    ]
    return edge, cloud, truth.astype(np.int64)


def pair(task: str, edge: list[Prediction], cloud: list[Prediction], truth: ClassLabels | CocoTruth) -> Pair:
    """A pair over pictures that nobody looks at."""
    pictures = tuple(ArrayPicture(str(i), np.full((1, 1, 3), i % 256, np.uint8)) for i in range(len(edge)))
    return Pair(task, SIDE, "c@1", 3, edge, edge, edge, cloud, LabelledSet("set", pictures, truth))


def boxes(confidence: list[float], class_id: int = 0) -> Detections:
    """Boxes side by side."""
    left = 60 * np.arange(len(confidence), dtype=np.float32)
    return Detections(
        np.stack([left, 0 * left, left + 50, 0 * left + 50], axis=1),
        np.array(confidence, np.float32),
        np.full(len(confidence), class_id, np.int32),
    )


def too_bold(count: int) -> tuple[list[Prediction], list[Prediction]]:
    """An edge that says 0.8 where the cloud says 0.4, and 0.4 where it says 0.1 or has no box."""
    edge: list[Prediction] = [boxes([0.8, 0.4]) for _ in range(count)]
    cloud: list[Prediction] = [boxes([0.4, 0.1]) if i % 2 else boxes([0.4]) for i in range(count)]
    return edge, cloud
