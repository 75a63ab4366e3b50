"""The head of a split network on the edge: encodes a frame as features. No pixels leave the device here."""

from pathlib import Path

import numpy as np

from spillover.common.errors import ModelError
from spillover.common.features.codec import encode_features
from spillover.common.geometry import FrameTransform
from spillover.common.model.exit import ExitInfo
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.preprocess import preprocess
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import Cut, check_digest, head_path, open_split_plan
from spillover.common.types import FloatArray, Image, Tensor
from spillover.edge.payload.backbone import BackboneWithFeatures
from spillover.edge.payload.types import EncodedFeatures


class FeatureEncoder:
    """Runs the head of one cut. Thread-safe, as runtimes are.

    `folder` is the cloud's model folder with its split, `cut` a name in its split.yaml. If `backbone` equals
    this head, the features that it still holds are reused.

    Raises:
        ModelError: the folder has no such cut, or the head is damaged or does not fit the plan.
    """

    def __init__(
        self,
        folder: Path,
        cut: str,
        session: SessionConfig | None = None,
        backbone: BackboneWithFeatures | None = None,
    ) -> None:
        opened = open_model_folder(folder)
        self.cut: Cut = open_split_plan(opened).cut(cut)
        path = head_path(folder, cut)
        check_digest(path, self.cut.head_sha256)
        self._input = opened.manifest.own_input
        self._runtime = open_runtime(path, session or SessionConfig())
        self.quantizers = [seam.quantizer for seam in self.cut.seams]
        self._tensors = [seam.tensor for seam in self.cut.seams]
        outputs = [spec.name for spec in self._runtime.outputs]
        if sorted(outputs) != sorted(self._tensors):
            raise ModelError(f"{path}: gives {outputs}, split.yaml says {self._tensors}")
        self._places = [outputs.index(name) for name in self._tensors]
        self._backbone = backbone if backbone and self._is_head(backbone.info) else None
        self.encode(np.zeros((self._input.height, self._input.width, 3), np.uint8))

    def encode(self, image: Image) -> EncodedFeatures:
        """Preprocess a BGR frame, run the head, and encode its outputs alone.

        Raises:
            ModelError: the head fails.
            InvalidInputError: a feature is not a number.
        """
        features, transform = self.features_of(image)
        return EncodedFeatures(encode_features(features, self.quantizers), self.cut.head_sha256, transform)

    def features_of(self, image: Image) -> tuple[list[FloatArray], FrameTransform]:
        """Preprocess a BGR frame and run the head; features without batch axis. Raises ModelError."""
        known = self._backbone.recall(image) if self._backbone else None
        if known is not None:
            return known.tensors, known.transform
        tensor, transform = preprocess(image, self._input)
        return self._run(tensor), transform

    def _is_head(self, info: ExitInfo) -> bool:
        return info.head_sha256 == self.cut.head_sha256 and list(info.features) == self._tensors

    def _run(self, tensor: Tensor) -> list[FloatArray]:
        try:
            outputs = self._runtime.run([tensor[None]])
        except ModelError as error:
            raise ModelError(f"head of cut {self.cut.name}: {error}") from error
        return [outputs[place][0] for place in self._places]
