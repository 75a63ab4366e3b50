"""Opens models of one network or several: for an executor, or to be asked directly."""

from pathlib import Path

from spillover.common.model.ensemble.ensemble import Ensemble, open_fused
from spillover.common.model.manifest import ModelFolder, open_model_folder
from spillover.common.model.pictures import Pictures, VisionModel
from spillover.common.model.runtimes.base import Runtime
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session import Model, PictureAdapter
from spillover.common.model.session_config import SessionConfig


def open_networks(folder: ModelFolder, config: SessionConfig) -> tuple[Runtime, Pictures]:
    """The networks of a model folder as one runtime, and what its pictures are prepared and decoded by.

    Raises:
        ModelError: a runtime refuses a file, or a network does not fit its manifest.
    """
    if folder.members:
        return open_fused(folder, config)
    runtime = open_runtime(folder.onnx_path, config)
    return runtime, PictureAdapter(folder, runtime.inputs, runtime.outputs)


def open_model(folder: ModelFolder, config: SessionConfig | None = None) -> VisionModel:
    """Load a checked folder, of one network or fused. Raises ModelError, as `open_networks`."""
    return Ensemble(folder, config) if folder.members else Model(folder, config)


def load_model(path: Path, config: SessionConfig | None = None) -> VisionModel:
    """Open, check and load the model folder at `path`. Raises ModelError."""
    return open_model(open_model_folder(path), config)
