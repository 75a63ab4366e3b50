"""The decoder of a model: the decoder of its head, with the output settings of `model.yaml`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spillover.common.errors import ModelError
from spillover.common.geometry import FrameTransform
from spillover.common.model.manifest import Manifest
from spillover.common.tasks import TASKS
from spillover.common.tasks.base import DecodeSettings, Head, TaskSpec
from spillover.common.types import FloatArray, Prediction


@dataclass(frozen=True, slots=True)
class ModelDecoder:
    """Turns the outputs for one picture (no batch axis) into a prediction in pixels of the frame."""

    head: Head[Any]
    settings: DecodeSettings

    def __call__(self, outputs: Sequence[FloatArray], transform: FrameTransform) -> Prediction:
        """Decode; `transform` maps the frame to the input.

        Raises ModelError if the outputs' shapes do not fit.
        """
        prediction: Prediction = self.head.decode(outputs, self.settings, transform)
        return prediction


def decoder_for(manifest: Manifest, task: TaskSpec[Any], anchors: FloatArray | None = None) -> ModelDecoder:
    """The decoder that the manifest of a model of this task names; `anchors` are those of its folder.

    Raises:
        ModelError: no decoder has that name, it is for another task, or the model is fused.
    """
    name, output, spec = manifest.output.decoder, manifest.output, manifest.own_input
    if name not in task.heads:
        other = next((other.name for other in TASKS.values() if name in other.heads), None)
        known = ", ".join(sorted(task.heads))
        why = (
            f"for {other}, but task is {task.name}"
            if other
            else f"unknown; for {task.name} there are {known}"
        )
        raise ModelError(f"model {manifest.name}: output.decoder {name!r} is {why}")
    settings = DecodeSettings(
        model=manifest.name,
        decoder=name,
        input_width=spec.width,
        input_height=spec.height,
        threshold=output.network_threshold,
        iou_threshold=output.iou_threshold,
        max_detections=output.max_detections,
        calibrate=output.calibration.apply if output.calibration else None,
        anchors=anchors,
    )
    return ModelDecoder(task.heads[name], settings)
