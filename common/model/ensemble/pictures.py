"""The adapters of a fused model's members as one: a picture for all inputs, all outputs to one answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from spillover.common.errors import ModelError
from spillover.common.images import decode_reduced
from spillover.common.jpeg import JpegHeader
from spillover.common.model.ensemble.weighted_boxes import weighted_boxes
from spillover.common.model.manifest import Decode, Manifest, ModelFolder
from spillover.common.model.pictures import Placements, Prepared, Run
from spillover.common.model.preprocess import preprocess, reduction_for
from spillover.common.model.session import PictureAdapter
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections, FloatArray, Image, ModelId, Prediction, Tensor

WEIGHTED_BOXES = "weighted_boxes"
FUSIONS: Mapping[tuple[str, str], Callable[[Sequence[Any], float], Detections]] = MappingProxyType(
    {(DETECTION.name, WEIGHTED_BOXES): weighted_boxes}
)
"""By task and `output.decoder`: the members' answers, and the overlap from which boxes are one object's."""
_BLACK = (480, 640, 3)


class FusedPictures:
    """`Pictures` over the adapters of the members, in the order of `members` in `model.yaml`.

    Raises:
        ModelError: `output.decoder` is no way to fuse, or two members know different classes.
    """

    def __init__(
        self, folder: ModelFolder, members: Sequence[PictureAdapter], outputs: Sequence[int]
    ) -> None:
        key = folder.manifest.task, folder.manifest.output.decoder
        if key not in FUSIONS:
            known = ", ".join(name for task, name in FUSIONS if task == key[0]) or f"none for {key[0]}"
            raise ModelError(
                f"model {folder.model_id}: output.decoder of a fused model is {known}, not {key[1]!r}"
            )
        self.folder = folder
        self.manifest: Manifest = folder.manifest
        self.class_count = _same_classes(folder, members)
        self._members = members
        self._outputs = outputs
        self._fuse = FUSIONS[key]

    @property
    def model_id(self) -> ModelId:
        """Name and version."""
        return self.folder.model_id

    def prepare_picture(self, image: Image) -> Prepared:
        """A BGR picture as one row of each input, and where it lies in each."""
        prepared = [member.prepare(image) for member in self._members]
        return [tensor[None] for tensor, _ in prepared], [transform for _, transform in prepared]

    def prepare_rows(self, data: bytes, header: JpegHeader) -> Prepared:
        """A JPEG, decoded once, for the member that needs most of it. Raises InvalidInputError."""
        reduction = 1
        if self.manifest.decode is not Decode.EXACT:
            reduction = min(reduction_for(header, member.manifest) for member in self._members)
        decoded = decode_reduced(data, header, reduction)
        rows: list[Tensor] = []
        placements = []
        for member in self._members:
            tensor, transform = preprocess(decoded.image, member.manifest.own_input)
            rows.append(tensor[None])
            placements.append(decoded.transform.compose(transform))
        return rows, placements

    def decode_rows(self, outputs: Sequence[Tensor], placements: Placements) -> Prediction:
        """One row of every member's outputs to one prediction. Raises ModelError."""
        answers, start = [], 0
        for member, count, placement in zip(self._members, self._outputs, placements, strict=True):
            answers.append(member.decode_rows(outputs[start : start + count], [placement]))
            start += count
        output = self.manifest.output
        fused = self._fuse(answers, output.iou_threshold)
        kept = fused.above(output.network_threshold)[: output.max_detections]
        if output.calibration is None:
            return kept
        calibrated: FloatArray = output.calibration.apply(kept.confidence)
        return replace(kept, confidence=calibrated)

    def try_out(self, run: Run) -> None:
        """Run end to end on a black picture. Raises ModelError."""
        rows, placements = self.prepare_picture(np.zeros(_BLACK, np.uint8))
        self.decode_rows(self.run_row(run, rows), placements)

    def run_row(self, run: Run, rows: Sequence[Tensor]) -> list[Tensor]:
        """Run one row (1, ...) of each input, filled up where networks take a fixed number of rows.

        Raises:
            ModelError: a network fails.
        """
        fixed = next((one.fixed_batch_size for one in self._members if one.fixed_batch_size), 1)
        filled = [np.concatenate([row, np.zeros((fixed - 1, *row.shape[1:]), row.dtype)]) for row in rows]
        try:
            return [output[:1] for output in run(filled if fixed > 1 else rows)]
        except ModelError as error:
            raise ModelError(f"model {self.model_id}: {error}") from error


def _same_classes(folder: ModelFolder, members: Sequence[PictureAdapter]) -> int | None:
    """How many classes all members know. Raises ModelError where two do not know the same."""
    named = {member.folder.labels: member.model_id for member in members if member.folder.labels}
    named |= {folder.labels: folder.model_id} if folder.labels else {}
    counts = {member.class_count: member.model_id for member in members if member.class_count is not None}
    counts |= {len(labels): model_id for labels, model_id in named.items()}
    if len(named) > 1:
        several = " and ".join(map(str, named.values()))
        raise ModelError(f"model {folder.model_id}: {several} name their classes differently")
    if len(counts) > 1:
        told = " and ".join(f"{model_id} has {count}" for count, model_id in counts.items())
        raise ModelError(f"model {folder.model_id}: its members know other classes: {told}")
    return next(iter(counts), None)
