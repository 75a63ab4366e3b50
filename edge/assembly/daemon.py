"""Builds a daemon's parts from its configuration: one device and the cameras that it serves."""

from collections.abc import Sequence
from contextlib import ExitStack

from spillover.common.config import under_key
from spillover.common.log import get_logger
from spillover.common.model.ensemble.opening import load_model
from spillover.common.model.locate import find_model_folder
from spillover.common.model.pictures import VisionModel
from spillover.common.model.runtimes.onnxruntime import check_providers
from spillover.edge.assembly.camera import build_camera_stream
from spillover.edge.assembly.device import build_device
from spillover.edge.assembly.variants import open_variants
from spillover.edge.config import ModelConfig
from spillover.edge.device import Device, Run
from spillover.edge.stream import CameraStream

_log = get_logger("edge")


def assemble(run: Run) -> tuple[Device, Sequence[CameraStream]]:
    """Build the parts; nothing runs yet. Where one cannot be built, none stays open.

    Raises:
        ConfigError: a value does not fit the model, or a sink cannot be opened.
        ModelError: the model folder is damaged.
        SourceError: a file cannot be opened as camera, or a live one that is required.
    """
    config = run.config
    model = open_model(config.model)
    variants = open_variants(config, model)
    with ExitStack() as opened:
        device = build_device(run, model, variants, opened)
        streams = [build_camera_stream(run, camera, model, device, opened) for camera in config.all_cameras]
        opened.pop_all()
    made = {"made_on": model.manifest.made_on} if model.manifest.made_on else {}
    _log.info("model", model=str(model.model_id), sha256=model.manifest.sha256[:12], **made)
    return device, streams


def open_model(config: ModelConfig) -> VisionModel:
    """The local model.

    Raises:
        ConfigError: an execution provider is not here.
        ModelError: there is no such folder, or it is damaged. The text begins with the key.
    """
    check_providers(config.session, "model.session")
    with under_key("model.folder"):
        return load_model(find_model_folder(config.folder), config.session)
