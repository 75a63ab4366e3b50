"""Detection: turns grids of raw boxes into one box per object, sorted by descending confidence."""

import functools
from collections.abc import Sequence
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from spillover.common.errors import ModelError
from spillover.common.geometry import FrameTransform
from spillover.common.tasks.base import Column, DecodeSettings, Head, TaskSpec
from spillover.common.types import Detections, FloatArray, IntArray

IndexArray = npt.NDArray[np.intp]

MATCH_IOU = 0.5

_STRIDES = (8, 16, 32)
# More candidates than this before suppression are noise from a very low threshold; the best are kept.
_MAX_CANDIDATES = 1000
# exp() of more than this is a box wider than any picture; without the limit a damaged network overflows.
_MAX_LOG_SIZE = 10.0
_MAX_CLASS = 2**20
# TensorFlow Object Detection API, `faster_rcnn_box_coder`: scales of y, x, height and width.
_SSD_SCALES = np.array([10.0, 10.0, 5.0, 5.0], np.float32)
# The sigmoid of less is 0 in float32, and its exp() overflows.
_MIN_LOGIT = -80.0


def decode_yolox(
    outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform
) -> Detections:
    """YOLOX (arXiv 2107.08430) without decoding in the graph: rows [x, y, w, h, objectness, classes...].

    `xy = (o + cell) * stride`, `wh = exp(o) * stride`, score = objectness * class score, both in 0..1.
    """
    rows = _expect(outputs[0], 2, settings)
    grid, stride = _yolox_grid(settings.input_height, settings.input_width)
    if len(rows) != len(grid) or rows.shape[1] < 6:
        raise ModelError(
            f"model {settings.model}: output {rows.shape} does not fit yolox with {len(grid)} cells"
        )
    # A score is never above its objectness: most cells are ruled out by one comparison.
    hopeful = np.flatnonzero(_may_count(rows[:, 4], settings.threshold))
    rows, grid, stride = rows[hopeful], grid[hopeful], stride[hopeful]
    centre = (rows[:, :2] + grid) * stride
    size = np.exp(np.minimum(rows[:, 2:4], _MAX_LOG_SIZE)) * stride
    return _select(
        centre,
        size,
        *_best_class(np.minimum(rows[:, 5:], 1) * np.minimum(rows[:, 4:5], 1)),
        settings,
        transform,
    )


def decode_fastestdet(
    outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform
) -> Detections:
    """FastestDet: planes [objectness, dx, dy, w, h, classes...] over one grid.

    `centre = (tanh(d) + cell) / grid`, `size = sigmoid(o)` of the picture, score = objectness^0.6 *
    class^0.4 (the author's export).
    """
    planes = _expect(outputs[0], 3, settings)
    channels, grid_height, grid_width = planes.shape
    if channels < 6:
        raise ModelError(f"model {settings.model}: output {planes.shape} does not fit fastestdet")
    planes = planes.reshape(channels, -1)
    # Class scores are at most 1, so a score is never above objectness^0.6.
    hopeful = np.flatnonzero(_may_count(planes[0], settings.threshold ** (1 / 0.6)))
    rows = planes[:, hopeful].T
    cell = np.stack([hopeful % grid_width, hopeful // grid_width], axis=1).astype(np.float32)
    whole = np.array([settings.input_width, settings.input_height], np.float32)
    cell_size = whole / np.array([grid_width, grid_height], np.float32)
    centre = ((np.tanh(rows[:, 1:3]) + cell) * cell_size).astype(np.float32, copy=False)
    size = _sigmoid(rows[:, 3:5]) * whole
    likeliest, class_id = _best_class(np.maximum(rows[:, 5:], 0))
    confidence = np.power(np.maximum(rows[:, 0], 0), np.float32(0.6)) * np.power(likeliest, np.float32(0.4))
    return _select(centre, size, confidence, class_id, settings, transform)


def decode_yolov8(
    outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform
) -> Detections:
    """YOLOv8/YOLO11 export: (4 + classes, cells) with boxes cx, cy, w, h in input pixels, scores final."""
    planes = _expect(outputs[0], 2, settings)
    if planes.shape[0] < 5:
        raise ModelError(f"model {settings.model}: output {planes.shape} does not fit yolov8")
    hopeful = np.flatnonzero(_may_count(planes[4:].max(axis=0), settings.threshold))
    rows = planes[:, hopeful].T
    return _select(rows[:, :2], rows[:, 2:4], *_best_class(rows[:, 4:]), settings, transform)


def decode_yolov5(
    outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform
) -> Detections:
    """YOLOv5 and YOLOv7, anchors decoded in the graph: rows [cx, cy, w, h, objectness, classes...] in pixels.

    Score = objectness * class score (github.com/ultralytics/yolov5, `non_max_suppression`).
    """
    rows = _expect(outputs[0], 2, settings)
    if rows.shape[1] < 6:
        raise ModelError(f"model {settings.model}: output {rows.shape} does not fit yolov5")
    rows = rows[_may_count(rows[:, 4], settings.threshold)]
    return _select(rows[:, :2], rows[:, 2:4], *_best_class(rows[:, 5:] * rows[:, 4:5]), settings, transform)


def decode_end2end(
    outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform
) -> Detections:
    """Boxes chosen in the graph: rows [x1, y1, x2, y2, score, class] in pixels, as of YOLOv10.

    Nothing is suppressed here. Rows that a graph leaves empty have score 0 and are dropped at any threshold.
    """
    rows = _expect(outputs[0], 2, settings)
    if rows.shape[1] != 6:
        raise ModelError(f"model {settings.model}: output {rows.shape} does not fit end2end")
    rows = rows[_may_count(rows[:, 4], settings.threshold) & (rows[:, 4] != 0)]
    finite = np.isfinite(rows).all(axis=1)
    rows = rows[finite & (rows[:, 4] > 0) & (rows[:, 5] >= 0) & (rows[:, 5] < _MAX_CLASS)]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][: settings.max_detections]
    confidence = settings.calibrate(rows[:, 4]) if settings.calibrate else rows[:, 4]
    class_id = np.rint(rows[:, 5]).astype(np.int32)
    return Detections(transform.to_frame(rows[:, :4]), confidence, class_id, int((~finite).sum()))


def decode_nanodet(
    outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform
) -> Detections:
    """NanoDet (github.com/RangiLyu/nanodet): class scores at strides 8, 16, 32, then the sides at the same.

    Scores (cells, classes) are final. Sides (cells, 4 * bins) are distributions of the distances from the
    cell's middle to left, top, right and bottom, in strides (generalised focal loss, arXiv 2006.04388).
    """
    levels = len(_STRIDES)
    if len(outputs) != 2 * levels:
        raise ModelError(
            f"model {settings.model}: nanodet needs {2 * levels} outputs, the network has {len(outputs)}"
        )
    found = [
        _nanodet_level(
            _expect(outputs[n], 2, settings), _expect(outputs[levels + n], 2, settings), n, settings
        )
        for n in range(levels)
    ]
    low, high, confidence, class_id = (np.concatenate(parts) for parts in zip(*found, strict=True))
    centre = ((low + high) * np.float32(0.5)).astype(np.float32, copy=False)
    return _select(centre, high - low, confidence, class_id, settings, transform)


def decode_ssd(
    outputs: Sequence[FloatArray], settings: DecodeSettings, transform: FrameTransform
) -> Detections:
    """SSD (arXiv 1512.02325) of TensorFlow's Object Detection API: class logits, and boxes against anchors.

    Logits (anchors, 1 + classes), of which class 0 is none; boxes (anchors, 4) are y, x, height, width. The
    two may come in either order. The anchors are those of
    `output.anchors`, as `DecodeSettings` has them.
    """
    anchors = settings.anchors
    if anchors is None:
        raise ModelError(f"model {settings.model}: decoder ssd needs output.anchors in model.yaml")
    logits, encoded = _ssd_outputs(outputs, len(anchors), settings)
    likeliest, class_id = _best_class(logits[:, 1:])
    confidence = _sigmoid(likeliest)
    hopeful = np.flatnonzero(_may_count(confidence, settings.threshold))
    anchors, offset = anchors[hopeful], encoded[hopeful] / _SSD_SCALES
    whole = np.array([settings.input_width, settings.input_height], np.float32)
    anchor_size = (anchors[:, 2:] - anchors[:, :2]) * whole
    anchor_centre = (anchors[:, :2] + anchors[:, 2:]) / 2 * whole
    # TensorFlow says y before x, and height before width.
    centre = (offset[:, 1::-1] * anchor_size + anchor_centre).astype(np.float32, copy=False)
    size = (np.exp(np.minimum(offset[:, :1:-1], _MAX_LOG_SIZE)) * anchor_size).astype(np.float32, copy=False)
    return _select(centre, size, confidence[hopeful], class_id[hopeful], settings, transform)


def _nanodet_level(
    scores: FloatArray, sides: FloatArray, level: int, settings: DecodeSettings
) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
    """Top left (N, 2), bottom right (N, 2), confidence and class of the cells of one stride."""
    stride = _STRIDES[level]
    rows, columns = -(-settings.input_height // stride), -(-settings.input_width // stride)
    bins = sides.shape[1] // 4
    if not (
        len(scores) == len(sides) == rows * columns and scores.shape[1] and sides.shape[1] == 4 * bins > 0
    ):
        raise ModelError(
            f"model {settings.model}: outputs {scores.shape} and {sides.shape} do not fit nanodet with "
            f"{rows * columns} cells of {stride} pixels"
        )
    hopeful = np.flatnonzero(_may_count(scores, settings.threshold).any(axis=1))
    confidence, class_id = _best_class(np.minimum(scores[hopeful], 1))
    odds = sides[hopeful].reshape(-1, 4, bins)
    with np.errstate(invalid="ignore"):  # infinite sides become NaN, which `_select` counts
        odds = np.exp(odds - odds.max(axis=2, keepdims=True))
        distance = odds @ np.arange(bins, dtype=np.float32) / odds.sum(axis=2) * stride
    cell = np.stack([hopeful % columns, hopeful // columns], axis=1).astype(np.float32)
    middle = (cell + np.float32(0.5)) * stride
    return middle - distance[:, :2], middle + distance[:, 2:], confidence, class_id


def _ssd_outputs(
    outputs: Sequence[FloatArray], anchors: int, settings: DecodeSettings
) -> tuple[FloatArray, FloatArray]:
    """Logits and boxes. Raises ModelError."""
    # TensorFlow keeps an axis of one class for boxes that all classes share: (anchors, 1, 4).
    arrays = [_expect(o[:, 0] if o.ndim == 3 and o.shape[1] == 1 else o, 2, settings) for o in outputs]
    if len(arrays) == 2 and arrays[1].shape[1] != 4:
        arrays.reverse()
    shapes = [array.shape for array in arrays]
    if (
        len(arrays) != 2
        or {len(array) for array in arrays} != {anchors}
        or shapes[1][1] != 4
        or shapes[0][1] < 2
    ):
        raise ModelError(f"model {settings.model}: outputs {shapes} do not fit ssd with {anchors} anchors")
    return arrays[0], arrays[1]


def _expect(output: FloatArray, axes: int, settings: DecodeSettings) -> FloatArray:
    if output.ndim != axes:
        raise ModelError(
            f"model {settings.model}: decoder {settings.decoder} needs {axes} axes a picture, "
            f"the output has shape {output.shape}"
        )
    return output.astype(np.float32, copy=False)


def _sigmoid(x: FloatArray) -> FloatArray:
    return (1.0 / (1.0 + np.exp(-np.maximum(x, _MIN_LOGIT)))).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _yolox_grid(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Cell coordinates (cells, 2) and strides (cells, 1) of all levels, in the order of the output rows."""
    grids, strides = [], []
    for stride in _STRIDES:
        rows, columns = height // stride, width // stride
        y, x = np.mgrid[:rows, :columns]
        grids.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _may_count(score: FloatArray, threshold: float) -> npt.NDArray[np.bool_]:
    """Where a score reaches the threshold, or is NaN, which reaches none and is to be counted."""
    below: npt.NDArray[np.bool_] = score < threshold
    return ~below


def _best_class(score: FloatArray) -> tuple[FloatArray, IntArray]:
    """The best class of each row of (cells, classes): its confidence (cells,) and class_id (cells,)."""
    class_id = score.argmax(axis=1).astype(np.int32)
    return score[np.arange(len(score)), class_id], class_id


def _select(
    centre: FloatArray,
    size: FloatArray,
    confidence: FloatArray,
    class_id: IntArray,
    settings: DecodeSettings,
    transform: FrameTransform,
) -> Detections:
    """Threshold, class-wise non-maximum suppression, back to frame pixels, calibrated confidences."""
    counts = _may_count(confidence, settings.threshold)
    finite = np.isfinite(centre).all(axis=1) & np.isfinite(size).all(axis=1) & np.isfinite(confidence)
    kept = np.flatnonzero(counts & finite)
    kept = kept[np.argsort(-confidence[kept], kind="stable")][:_MAX_CANDIDATES]
    centre, size, confidence, class_id = centre[kept], size[kept], confidence[kept], class_id[kept]
    half = (np.maximum(size, 0) * 0.5).astype(np.float32, copy=False)
    chosen = suppress(centre - half, half * 2, class_id, settings.iou_threshold)[: settings.max_detections]
    xyxy = np.concatenate([centre[chosen] - half[chosen], centre[chosen] + half[chosen]], axis=1)
    reported = settings.calibrate(confidence[chosen]) if settings.calibrate else confidence[chosen]
    left_out = int(np.count_nonzero(counts & ~finite))
    return Detections(transform.to_frame(xyxy), reported, class_id[chosen], left_out)


def suppress(corner: FloatArray, size: FloatArray, class_id: IntArray, iou_threshold: float) -> IndexArray:
    """Indices that survive class-wise suppression, in order; boxes come sorted by descending confidence."""
    if not len(corner):
        return np.empty(0, np.intp)
    # OpenCV separates classes by shifting each by the largest coordinate, which fails for negative ones.
    xywh = np.concatenate([corner - corner.min(axis=0), size], axis=1).astype(np.float64)
    # OpenCV's order of equal scores is not stable, so ranks replace the scores.
    rank = np.linspace(1.0, 0.5, len(xywh), dtype=np.float32)
    chosen = cv2.dnn.NMSBoxesBatched(xywh, rank, class_id, 0.0, iou_threshold)  # type: ignore[arg-type]
    return np.sort(np.asarray(chosen, np.intp).reshape(-1))


def matched_share(prediction: Detections, reference: Detections, confidence: float) -> float:
    """F1 of the boxes of at least this confidence; 1 when neither side has any.

    Boxes are matched one to one within a class at IoU >= 0.5, best confidence first (the matching of PASCAL
    VOC, IJCV 2010).
    """
    prediction, reference = prediction.above(confidence), reference.above(confidence)
    total = len(prediction) + len(reference)
    return 2 * _matches(prediction, reference) / total if total else 1.0


def pairwise_iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of boxes a (N, 4) and b (M, 4), as (N, M) float32."""
    left, top, right, bottom = (a[:, side, None] for side in range(4))
    width = np.minimum(right, b[:, 2]) - np.maximum(left, b[:, 0])  # side by side: a third axis costs most
    height = np.minimum(bottom, b[:, 3]) - np.maximum(top, b[:, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area_a, area_b = (np.maximum(x[:, 2] - x[:, 0], 0) * np.maximum(x[:, 3] - x[:, 1], 0) for x in (a, b))
    union = area_a[:, None] + area_b[None, :] - shared
    iou: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def _matches(prediction: Detections, reference: Detections) -> int:
    iou = pairwise_iou(prediction.xyxy, reference.xyxy)
    iou[prediction.class_id[:, None] != reference.class_id[None, :]] = 0
    count = 0
    for row in iou:  # by descending confidence, as Detections promises
        best = int(row.argmax()) if row.size else -1
        if best >= 0 and row[best] >= MATCH_IOU:
            iou[:, best] = 0
            count += 1
    return count


DETECTION = TaskSpec(
    name="detection",
    prediction=Detections,
    heads=MappingProxyType(
        {
            "yolox": Head(decode_yolox, class_axis=1, other=5, axes=2),
            "fastestdet": Head(decode_fastestdet, class_axis=0, other=5, axes=3),
            "yolov8": Head(decode_yolov8, class_axis=0, other=4, axes=2),
            "yolov5": Head(decode_yolov5, class_axis=1, other=5, axes=2),
            "end2end": Head(decode_end2end, axes=2, counted=False),
            "nanodet": Head(decode_nanodet, class_axis=1, axes=2),
            "ssd": Head(decode_ssd, axes=2, counted=False),
        }
    ),
    columns=MappingProxyType(
        {
            "xyxy": Column(np.float32, width=4, decimals=2),
            "confidence": Column(np.float32, decimals=6),
            "class_id": Column(np.int32),
        }
    ),
    agreement=matched_share,
    record_key="boxes",
    wire_field="detections",
    scorer="near_threshold",
    calibrates=True,
)
