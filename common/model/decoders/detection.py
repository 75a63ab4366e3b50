"""Decoders of detectors: grids of raw boxes to class-wise suppressed detections."""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from spillover.common.errors import ModelError
from spillover.common.model.manifest import Manifest
from spillover.common.model.preprocess import Geometry
from spillover.common.types import Detections, FloatArray, IntArray

IndexArray = npt.NDArray[np.intp]

_YOLOX_STRIDES = (8, 16, 32)
# More candidates than this before suppression are noise from a very low threshold; the best are kept.
_MAX_CANDIDATES = 1000
# exp() of more than this is a box wider than any picture; without the limit a damaged network overflows.
_MAX_LOG_SIZE = 10.0


def decode_yolox(outputs: Sequence[FloatArray], manifest: Manifest, geometry: Geometry) -> Detections:
    """YOLOX (arXiv 2107.08430) without decoding in the graph: rows [x, y, w, h, objectness, classes...].

    `xy = (o + cell) * stride`, `wh = exp(o) * stride`, score = objectness * class score, both in 0..1.
    """
    rows = _expect(outputs[0], 2, manifest)
    grid, stride = _yolox_grid(manifest.input.height, manifest.input.width)
    if len(rows) != len(grid) or rows.shape[1] < 6:
        raise ModelError(
            f"model {manifest.name}: output {rows.shape} does not fit yolox with {len(grid)} cells"
        )
    # A score is never above its objectness: most cells are ruled out by one comparison.
    hopeful = np.flatnonzero(rows[:, 4] >= manifest.output.network_threshold)
    rows, grid, stride = rows[hopeful], grid[hopeful], stride[hopeful]
    centre = (rows[:, :2] + grid) * stride
    size = np.exp(np.minimum(rows[:, 2:4], _MAX_LOG_SIZE)) * stride
    return _select(
        centre,
        size,
        *_best_class(np.minimum(rows[:, 5:], 1) * np.minimum(rows[:, 4:5], 1)),
        manifest,
        geometry,
    )


def decode_fastestdet(outputs: Sequence[FloatArray], manifest: Manifest, geometry: Geometry) -> Detections:
    """FastestDet: planes [objectness, dx, dy, w, h, classes...] over one grid.

    `centre = (tanh(d) + cell) / grid`, `size = sigmoid(o)` of the picture, score = objectness^0.6 *
    class^0.4 (the author's export).
    """
    planes = _expect(outputs[0], 3, manifest)
    channels, grid_height, grid_width = planes.shape
    if channels < 6:
        raise ModelError(f"model {manifest.name}: output {planes.shape} does not fit fastestdet")
    planes = planes.reshape(channels, -1)
    # Class scores are at most 1, so a score is never above objectness^0.6.
    hopeful = np.flatnonzero(planes[0] >= manifest.output.network_threshold ** (1 / 0.6))
    rows = planes[:, hopeful].T
    cell = np.stack([hopeful % grid_width, hopeful // grid_width], axis=1).astype(np.float32)
    whole = np.array([manifest.input.width, manifest.input.height], np.float32)
    cell_size = whole / np.array([grid_width, grid_height], np.float32)
    centre = ((np.tanh(rows[:, 1:3]) + cell) * cell_size).astype(np.float32, copy=False)
    size = _sigmoid(rows[:, 3:5]) * whole
    likeliest, class_id = _best_class(np.maximum(rows[:, 5:], 0))
    confidence = np.power(np.maximum(rows[:, 0], 0), np.float32(0.6)) * np.power(likeliest, np.float32(0.4))
    return _select(centre, size, confidence, class_id, manifest, geometry)


def decode_yolov8(outputs: Sequence[FloatArray], manifest: Manifest, geometry: Geometry) -> Detections:
    """YOLOv8/YOLO11 export: (4 + classes, cells) with boxes cx, cy, w, h in input pixels, scores final."""
    planes = _expect(outputs[0], 2, manifest)
    if planes.shape[0] < 5:
        raise ModelError(f"model {manifest.name}: output {planes.shape} does not fit yolov8")
    hopeful = np.flatnonzero(planes[4:].max(axis=0) >= manifest.output.network_threshold)
    rows = planes[:, hopeful].T
    return _select(rows[:, :2], rows[:, 2:4], *_best_class(rows[:, 4:]), manifest, geometry)


def _expect(output: FloatArray, axes: int, manifest: Manifest) -> FloatArray:
    if output.ndim != axes:
        raise ModelError(
            f"model {manifest.name}: decoder {manifest.output.decoder} needs {axes} axes a picture, "
            f"the output has shape {output.shape}"
        )
    return output.astype(np.float32, copy=False)


def _sigmoid(x: FloatArray) -> FloatArray:
    return (1.0 / (1.0 + np.exp(-x))).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _yolox_grid(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Cell coordinates (cells, 2) and strides (cells, 1) of all levels, in the order of the output rows."""
    grids, strides = [], []
    for stride in _YOLOX_STRIDES:
        rows, columns = height // stride, width // stride
        y, x = np.mgrid[:rows, :columns]
        grids.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _best_class(score: FloatArray) -> tuple[FloatArray, IntArray]:
    """The best class of each row of (cells, classes): its confidence (cells,) and class_id (cells,)."""
    class_id = score.argmax(axis=1).astype(np.int32)
    return score[np.arange(len(score)), class_id], class_id


def _select(
    centre: FloatArray,
    size: FloatArray,
    confidence: FloatArray,
    class_id: IntArray,
    manifest: Manifest,
    geometry: Geometry,
) -> Detections:
    """Threshold, class-wise non-maximum suppression, back to frame pixels, calibrated confidences."""
    spec = manifest.output
    finite = np.isfinite(centre).all(axis=1) & np.isfinite(size).all(axis=1)
    kept = np.flatnonzero(finite & (confidence >= spec.network_threshold))
    kept = kept[np.argsort(-confidence[kept], kind="stable")][:_MAX_CANDIDATES]
    centre, size, confidence, class_id = centre[kept], size[kept], confidence[kept], class_id[kept]
    half = (np.maximum(size, 0) * 0.5).astype(np.float32, copy=False)
    chosen = suppress(centre - half, half * 2, class_id, spec.iou_threshold)[: spec.max_detections]
    xyxy = np.concatenate([centre[chosen] - half[chosen], centre[chosen] + half[chosen]], axis=1)
    told = spec.calibration.apply(confidence[chosen]) if spec.calibration else confidence[chosen]
    return Detections(geometry.to_frame(xyxy), told, class_id[chosen])


def suppress(corner: FloatArray, size: FloatArray, class_id: IntArray, iou_threshold: float) -> IndexArray:
    """Indices that survive class-wise suppression, in order; the boxes come by descending confidence."""
    if not len(corner):
        return np.empty(0, np.intp)
    # OpenCV keeps classes apart by shifting each by the largest coordinate; that fails below zero.
    xywh = np.concatenate([corner - corner.min(axis=0), size], axis=1).astype(np.float64)
    # Its own order of equal scores is not stable, so ranks stand in for them.
    rank = np.linspace(1.0, 0.5, len(xywh), dtype=np.float32)
    chosen = cv2.dnn.NMSBoxesBatched(xywh, rank, class_id, 0.0, iou_threshold)  # type: ignore[arg-type]
    return np.sort(np.asarray(chosen, np.intp).reshape(-1))
