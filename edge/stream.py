"""One camera of a device: its source, its queue, and the pipeline that knows its scene and settings."""

from dataclasses import dataclass

from spillover.edge.camera.camera import Camera
from spillover.edge.camera.reconnecting import ResilientSource
from spillover.edge.camera.source import Source
from spillover.edge.pipeline import CameraSettings, Pipeline


@dataclass(frozen=True, slots=True, eq=False)
class CameraStream:
    """What a camera has for itself; all else belongs to the device, which it shares with the others."""

    camera_id: str
    source: Source
    camera: Camera
    pipeline: Pipeline

    def settings(self) -> CameraSettings:
        """What its next frame is processed with, where the device's model itself answers. Thread-safe."""
        return self.pipeline.settings

    def stop(self) -> None:
        """Capture no more, and drop what is queued. Does not wait for a read that is under way."""
        if isinstance(self.source, ResilientSource):
            self.source.interrupt()
        self.camera.stop()
