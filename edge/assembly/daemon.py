"""Builds a daemon's parts from its configuration: one device and the cameras that it serves."""

from collections.abc import Sequence
from contextlib import ExitStack

from spillover.common.model.locate import find_model_folder
from spillover.common.model.session import Model
from spillover.edge.assembly.camera import build_camera_stream
from spillover.edge.assembly.device import build_device
from spillover.edge.device import Device, Run
from spillover.edge.stream import CameraStream


def assemble(run: Run) -> tuple[Device, Sequence[CameraStream]]:
    """Build the parts; nothing runs yet. Where one cannot be built, none stays open.

    Raises:
        ConfigError: a value does not fit the model, or a sink cannot be opened.
        ModelError: the model folder is damaged.
        SourceError: a file cannot be opened as camera, or a live one that is required.
    """
    config = run.config
    model = Model.load(find_model_folder(config.model.folder), config.model.session)
    with ExitStack() as opened:
        device = build_device(run, model, opened)
        streams = [build_camera_stream(run, camera, model, device, opened) for camera in config.all_cameras]
        opened.pop_all()
    return device, streams
