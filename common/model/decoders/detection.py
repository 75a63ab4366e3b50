"""Decoders of detectors: grids of raw boxes to class-wise suppressed detections."""

from collections.abc import Sequence

import cv2
import numpy as np

from common.errors import ModelError
from common.model.manifest import Manifest
from common.model.preprocess import Geometry
from common.types import Detections, FloatArray

_YOLOX_STRIDES = (8, 16, 32)


def decode_yolox(outputs: Sequence[FloatArray], manifest: Manifest, geometry: Geometry) -> Detections:
    """YOLOX (arXiv 2107.08430) without decoding in the graph: rows [x, y, w, h, objectness, classes...].

    `xy = (o + cell) * stride`, `wh = exp(o) * stride`, score = objectness * class score.
    """
    rows = _expect(outputs[0], 2, manifest)
    grid, stride = _yolox_grid(manifest.input.height, manifest.input.width)
    if len(rows) != len(grid) or rows.shape[1] < 6:
        raise ModelError(
            f"model {manifest.name}: output {rows.shape} does not fit yolox with {len(grid)} cells"
        )
    centre = (rows[:, :2] + grid) * stride
    size = np.exp(rows[:, 2:4]) * stride
    return _select(centre, size, rows[:, 5:] * rows[:, 4:5], manifest, geometry)


def decode_fastestdet(outputs: Sequence[FloatArray], manifest: Manifest, geometry: Geometry) -> Detections:
    """FastestDet: planes [objectness, tanh dx, tanh dy, w, h, classes...] over one grid.

    `centre = (tanh(d) + cell) / grid`, score = objectness^0.6 * class^0.4 (the author's export).
    """
    planes = _expect(outputs[0], 3, manifest)
    _, grid_height, grid_width = planes.shape
    if planes.shape[0] < 6:
        raise ModelError(f"model {manifest.name}: output {planes.shape} does not fit fastestdet")
    rows = planes.reshape(planes.shape[0], -1).T
    cell_y, cell_x = np.divmod(np.arange(len(rows)), grid_width)
    cell = np.stack([cell_x, cell_y], axis=1).astype(np.float32)
    whole = np.array([manifest.input.width, manifest.input.height], np.float32)
    centre = ((np.tanh(rows[:, 1:3]) + cell) * (whole / (grid_width, grid_height))).astype(np.float32)
    size = _sigmoid(rows[:, 3:5]) * whole
    objectness, classes = np.maximum(rows[:, :1], 0), np.maximum(rows[:, 5:], 0)
    score = np.power(objectness, np.float32(0.6)) * np.power(classes, np.float32(0.4))
    return _select(centre, size, score, manifest, geometry)


def decode_yolov8(outputs: Sequence[FloatArray], manifest: Manifest, geometry: Geometry) -> Detections:
    """YOLOv8/YOLO11 export: (4 + classes, cells) with boxes cx, cy, w, h in input pixels, scores final."""
    planes = _expect(outputs[0], 2, manifest)
    if planes.shape[0] < 5:
        raise ModelError(f"model {manifest.name}: output {planes.shape} does not fit yolov8")
    rows = planes.T
    return _select(rows[:, :2], rows[:, 2:4], rows[:, 4:], manifest, geometry)


def _expect(output: FloatArray, axes: int, manifest: Manifest) -> FloatArray:
    if output.ndim != axes:
        raise ModelError(
            f"model {manifest.name}: decoder {manifest.output.decoder} needs {axes} axes a picture, "
            f"the output has shape {output.shape}"
        )
    return output.astype(np.float32, copy=False)


def _sigmoid(x: FloatArray) -> FloatArray:
    return (1.0 / (1.0 + np.exp(-x))).astype(np.float32)


def _yolox_grid(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Cell coordinates (cells, 2) and strides (cells, 1) of all levels, in the order of the output rows."""
    grids, strides = [], []
    for stride in _YOLOX_STRIDES:
        rows, columns = height // stride, width // stride
        y, x = np.mgrid[:rows, :columns]
        grids.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _select(
    centre: FloatArray, size: FloatArray, score: FloatArray, manifest: Manifest, geometry: Geometry
) -> Detections:
    """Best class per cell, threshold, class-wise non-maximum suppression, back to frame pixels."""
    spec = manifest.output
    class_id = score.argmax(axis=1).astype(np.int32)
    confidence = score[np.arange(len(score)), class_id]
    kept = np.flatnonzero(confidence >= spec.confidence_threshold)
    corner = centre[kept] - size[kept] / 2
    xywh = np.concatenate([corner, size[kept]], axis=1)
    confidence, class_id = confidence[kept], class_id[kept]
    if len(kept):
        chosen = np.asarray(
            cv2.dnn.NMSBoxesBatched(
                xywh.tolist(), confidence.tolist(), class_id.tolist(), 0.0, spec.iou_threshold
            ),
            np.intp,
        ).reshape(-1)
        order = chosen[np.argsort(-confidence[chosen], kind="stable")][: spec.max_detections]
    else:
        order = kept
    xyxy = np.concatenate([xywh[order, :2], xywh[order, :2] + xywh[order, 2:]], axis=1)
    return Detections(
        geometry.to_frame(xyxy.astype(np.float32)),
        confidence[order].astype(np.float32),
        class_id[order],
    )
