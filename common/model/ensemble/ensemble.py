"""A fused model in memory."""

import time
from collections.abc import Callable
from functools import partial

from spillover.common.model.ensemble.pictures import FusedPictures
from spillover.common.model.manifest import ModelFolder
from spillover.common.model.pictures import Prepared, StepTimings
from spillover.common.model.preprocess import checked_header
from spillover.common.model.runtimes.joined import JoinedRuntime
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session import PictureAdapter
from spillover.common.model.session_config import SessionConfig
from spillover.common.types import Image, Prediction


def open_fused(folder: ModelFolder, config: SessionConfig) -> tuple[JoinedRuntime, FusedPictures]:
    """The members' networks as one runtime, and their adapters as one.

    Raises:
        ModelError: a runtime refuses a file, a network does not fit its manifest, or members do not fit.
    """
    runtimes = {member.path.name: open_runtime(member.onnx_path, config) for member in folder.members}
    members = [
        PictureAdapter(member, runtime.inputs, runtime.outputs)
        for member, runtime in zip(folder.members, runtimes.values(), strict=True)
    ]
    outputs = [len(runtime.outputs) for runtime in runtimes.values()]
    return JoinedRuntime(runtimes), FusedPictures(folder, members, outputs)


class Ensemble:
    """Several models as one, as `output.decoder` fuses them. Thread-safe, as runtimes are.

    Raises:
        ModelError: as `open_fused`.
    """

    def __init__(self, folder: ModelFolder, config: SessionConfig | None = None) -> None:
        config = config or SessionConfig()
        self._runtime, self._pictures = open_fused(folder, config)
        self.folder = folder
        self.manifest = folder.manifest
        self.model_id = folder.model_id
        self.class_count = self._pictures.class_count
        for _ in range(config.warm_up_runs):
            self._pictures.try_out(self._runtime.run)

    def predict(self, image: Image) -> tuple[Prediction, StepTimings]:
        """Answer one BGR picture. Raises ModelError."""
        return self._predict(partial(self._pictures.prepare_picture, image))

    def predict_jpeg(self, data: bytes, max_pixels: int) -> Prediction:
        """What a server with this model answers to a JPEG.

        Raises:
            InvalidInputError: it cannot be decoded, or has more than `max_pixels`.
            ModelError: a member fails.
        """
        header = checked_header(data, max_pixels)
        return self._predict(partial(self._pictures.prepare_rows, data, header))[0]

    def _predict(self, prepare: Callable[[], Prepared]) -> tuple[Prediction, StepTimings]:
        start = time.perf_counter()
        rows, placements = prepare()
        prepared = time.perf_counter()
        outputs = self._pictures.run_row(self._runtime.run, rows)
        ran = time.perf_counter()
        prediction = self._pictures.decode_rows(outputs, placements)
        done = time.perf_counter()
        return prediction, StepTimings(prepared - start, ran - prepared, done - ran)
