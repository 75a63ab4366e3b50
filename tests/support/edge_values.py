"""Small values for the tests of the edge."""

import numpy as np

from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage
from spillover.common.model.pictures import StepTimings
from spillover.common.types import (
    Action,
    AnsweredBy,
    Classification,
    Decision,
    Detections,
    Frame,
    ModelId,
    Result,
    Timings,
)
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.pipeline import CameraSettings, FrameJob, Look, Looked
from spillover.edge.tracking.stage import Shown


def classification(*probability: float) -> Classification:
    """Classes 0, 1, 2... with these probabilities."""
    return Classification(np.arange(len(probability), dtype=np.int32), np.array(probability, np.float32))


def detections(*confidence: float) -> Detections:
    """One box of class 0 for each confidence."""
    count = len(confidence)
    xyxy = np.tile(np.array([1, 2, 3, 4], np.float32), (count, 1))
    return Detections(xyxy, np.array(confidence, np.float32), np.zeros(count, np.int32))


def frame(sequence: int = 0, captured_monotonic_s: float = 0.0, size: tuple[int, int] = (48, 64)) -> Frame:
    """A grey frame of `size` (height, width)."""
    image = np.full((*size, 3), 128, np.uint8)
    return Frame(image, f"cam-boot-{sequence}", sequence, "cam", captured_monotonic_s, 1.7e9)


def encoded(frame_id: str = "f", sequence: int = 0) -> EncodedFrame:
    """A frame of 64x48 pixels as a picture of half its sides, which nothing decodes."""
    picture = EncodedImage(b"jpeg", FrameTransform(0.5, 0.5, 0, 0, 64, 48))
    return EncodedFrame(frame_id, "cam", "b", sequence, 1.7e9, picture)


def result(frame_id: str = "f") -> Result:
    """A local result."""
    return Result(
        frame_id=frame_id,
        camera_id="cam",
        sequence=3,
        captured_unix_s=1.7e9,
        source="",
        answered_by=AnsweredBy.EDGE,
        prediction=classification(0.7, 0.3),
        model=ModelId("small", "1"),
        decision=Decision(Action.KEEP, "confident", 0.3, inputs={"score": 0.3}),
        timings=Timings(infer_s=0.01, total_s=0.02),
    )


def look(frame: Frame, result: Result, settings: CameraSettings) -> Look:
    """A frame for somebody who watches, of which the model said what the result says."""
    said = result.prediction
    looked = Looked(frame, settings, settings, said, result.model, StepTimings(0, 0, 0), 0.0, "")
    return Look(FrameJob(looked, said, Shown(said), 1.0), result, settings)
