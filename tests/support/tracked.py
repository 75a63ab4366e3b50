"""A daemon on a clip of moving objects, with a detector and a cloud that say what a test has them say."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import grpc
import msgspec
import numpy as np

from spillover.common.model.pictures import StepTimings
from spillover.common.types import NO_BOXES, Detections, Image, ModelId, Prediction
from spillover.common.wire.pb import spillover_pb2 as pb
from spillover.edge.assembly.camera import build_camera_stream
from spillover.edge.assembly.daemon import open_model
from spillover.edge.assembly.device import build_device
from spillover.edge.config import EdgeConfig
from spillover.edge.daemon import Daemon
from spillover.edge.device import Device, Run
from spillover.edge.inference.predictor import GuardedPredictor
from spillover.edge.stream import CameraStream
from spillover.lab.records import read_records
from spillover.lab.runs.check.frame_accounting import FrameAccounting
from tests.support.models import centre_detector
from tests.support.moving import World
from tests.support.scripted_cloud import PATIENCE_S, Behaviour

THRESHOLD = 0.5
"""Boxes from this confidence on are reported."""
DOUBT = 9
"""The class of a box that is not quite reported: a frame with one is sent."""

MODEL = ModelId("scripted", "1")

Sees = Callable[[int], Detections]
"""The boxes in a frame, by its number."""


def nothing(_: int) -> Detections:
    """No boxes."""
    return NO_BOXES


@dataclass
class ScriptedDetector:
    """A model that reads the number of a frame from its first pixel, and sees what the script says."""

    sees: Sees
    sent: frozenset[int]
    """Frames with a doubtful box."""
    meanwhile: Callable[[int], None] = field(default=lambda _: None)
    """Called with each frame's number, on the pipeline's thread."""
    model_id: ModelId = MODEL

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """As scripted."""
        number = int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])
        self.meanwhile(number)
        seen = self.sees(number)
        if number in self.sent:
            doubt = Detections(
                np.array([[2, 2, 12, 12]], np.float32),
                np.array([THRESHOLD - 0.01], np.float32),
                np.array([DOUBT], np.int32),
            )
            seen = seen.merged(doubt)
        return seen, StepTimings(0.0, 0.0, 0.0)


def says(truth: Sees) -> Behaviour:
    """A cloud that knows the truth of each frame."""

    def answer(request: pb.InferRequest, _: grpc.ServicerContext) -> pb.InferReply:
        boxes = truth(request.sequence)
        return pb.InferReply(
            frame_id=request.frame_id,
            model=pb.ModelRef(name="big", version="7"),
            detections=pb.Detections(
                xyxy=boxes.xyxy.ravel().tolist(),
                confidence=boxes.confidence.tolist(),
                class_id=boxes.class_id.tolist(),
            ),
            timings=pb.ServerTimings(total_us=10),
        )

    return answer


class Street:
    """A folder with a clip, the daemon's configuration and its log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "out.jsonl"
        self.clip = folder / "clip"
        self.clip.mkdir()
        self.model = centre_detector(folder / "models")
        self.frames = 0

    def film(self, world: World, frames: int, size: tuple[int, int] | None = None) -> None:
        """Add frames of a world to the clip, the first of them as its frame 0; `size` is width and height."""
        for number in range(frames):
            self.add(world.picture(number), size)

    def add(self, picture: Image, size: tuple[int, int] | None = None) -> None:
        """Add one picture, with its number in its first pixel."""
        image = cv2.resize(picture, size) if size else picture.copy()
        image[0, 0] = (self.frames % 256, self.frames // 256, 0)
        cv2.imwrite(str(self.clip / f"{self.frames:05}.png"), image)
        self.frames += 1

    def config(self, **sections: Any) -> EdgeConfig:
        """A configuration that sends frames with a doubtful box alone, as fast as it can."""
        base: dict[str, Any] = {
            "camera": {"source": str(self.clip), "pace": "fast"},
            "model": {
                "folder": str(self.model),
                "session": {"threads": 1},
                "report_threshold": THRESHOLD,
            },
            "policy": {
                "kind": "near_threshold",
                "threshold": 0.4,
                "audit_share": 0.0,
                "empty_audit_share": 0.0,
                "motion_gain": 0.0,
                "lost_track_gain": 0.0,
            },
            "sinks": [{"kind": "jsonl", "path": str(self.log), "decision": "full"}],
            "uplink": {"late_answer_window_s": PATIENCE_S, "jpeg_quality": 95},
            "deadline_s": PATIENCE_S,
            "stop_timeout_s": PATIENCE_S,
        }
        for key, value in sections.items():
            base[key] = base[key] | value if isinstance(value, Mapping) and key in base else value
        return msgspec.convert(base, EdgeConfig)

    def daemon(self, detector: ScriptedDetector, config: EdgeConfig, **keys: Any) -> Daemon:
        """A daemon that looks with `detector`."""

        def build(run: Run) -> tuple[Device, Sequence[CameraStream]]:
            model, opened = open_model(run.config.model), ExitStack()
            device = build_device(run, model, (), opened)
            device = replace(
                device, predictor=GuardedPredictor(detector, device.reporting.metrics.boxes_dropped)
            )
            cameras = run.config.all_cameras
            return device, [build_camera_stream(run, camera, model, device, opened) for camera in cameras]

        return Daemon(config, build=build, **keys)

    def run(
        self,
        sees: Sees = nothing,
        sent: Sequence[int] = (),
        meanwhile: Callable[[Daemon, int], None] | None = None,
        **sections: Any,
    ) -> "Seen":
        """Run a daemon to the end of the clip; every frame must be accounted for."""
        detector = ScriptedDetector(sees, frozenset(sent))
        daemon = self.daemon(detector, self.config(**sections))
        if meanwhile is not None:
            detector.meanwhile = lambda number: meanwhile(daemon, number)
        daemon.run()
        return Seen(self, daemon)


class Seen:
    """What a run has left behind."""

    def __init__(self, street: Street, daemon: Daemon) -> None:
        books = FrameAccounting()
        with street.log.open("rb") as lines:
            books.add(lines)
        assert books.report().violations == ()
        self.counts = daemon.metrics.summary()
        self.status = daemon.status()
        records = read_records(street.log)
        self.first = sorted((one for one in records if not one.revision), key=lambda one: one.sequence)
        self.late = [one for one in records if one.revision]

    def numbers(self, frame: int) -> list[int | None]:
        """Numbers of the objects in a frame's first result."""
        return [box.track_id for box in self.first[frame].boxes or ()]


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to come, within a limit."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S * 20)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never came")
