"""Bytes and fidelity of smaller pictures and crops, measured on real pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spillover.common.images import EncodedImage
from spillover.common.model.ensemble.opening import load_model
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks import agreement
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections, Image, Prediction
from spillover.edge.config import PictureVariant
from spillover.edge.payload.crops import Crop, crop_of
from spillover.edge.payload.encoder import encode_variant
from spillover.edge.payload.types import EncodedFrame
from spillover.edge.policy.scores import ScoreSettings, doubtful_region
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.terminal import Progress

MAX_PIXELS = 100_000_000
_Column = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VariantRow:
    """One variant over the pictures that it applies to; a crop applies to pictures with doubtful boxes."""

    name: str
    mean_bytes: float
    fidelity: float
    """Mean agreement of the cloud's answers (of a crop: merged) with those to the first variant."""
    offered: float = 1.0
    """Share of the pictures that the variant applies to."""
    edge_agrees: float | None = None
    """For crops: agreement of the edge's answers to the same pictures."""
    usual_bytes: float | None = None
    """For crops: mean bytes of the first variant of the same pictures."""

    def sentence(self) -> str:
        """The row in words."""
        text = f"{self.name}: {self.mean_bytes:.0f} bytes, keeps {self.fidelity:.1%} of the cloud's answers"
        if self.edge_agrees is None:
            return text if self.offered else f"{self.name}: no picture to cut a crop from"
        return (
            f"{text}, where the edge's own are {self.edge_agrees:.1%} of them; cut from {self.offered:.0%} "
            f"of the pictures, which take {self.usual_bytes:.0f} bytes whole"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Doubts:
    """Where crops are cut: the edge's answers to the pictures, and the settings that find doubtful boxes."""

    predictions: Sequence[Prediction]
    settings: ScoreSettings

    def crop(self, number: int, image: Image) -> Crop | None:
        """The crop of one picture, if there is one."""
        region = doubtful_region(self.predictions[number], image, self.settings)
        return crop_of(region, self.reported(number)) if region else None

    def reported(self, number: int) -> Detections:
        """The boxes that the edge reports."""
        return DETECTION.own(self.predictions[number]).above(self.settings.report_threshold)


def measure_variants(
    cloud: Path,
    data: LabelledSet,
    variants: Sequence[PictureVariant],
    progress: Progress,
    threads: int = 0,
    doubts: Doubts | None = None,
) -> list[VariantRow]:
    """Encode, decode and answer every picture in every form; the first variant is the usual one.

    Crops need `doubts`.

    Raises:
        ModelError: the model does not load.
        SourceError: a picture cannot be read.
    """
    model = load_model(cloud, SessionConfig(threads=threads))
    shape = len(data.pictures), len(variants)
    sizes, fidelity, by_edge = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape[0], np.nan)
    for row, picture in enumerate(progress.track(data.pictures, "variants")):
        image, usual = picture.image(), None
        crop = doubts.crop(row, image) if doubts else None
        for column, variant in enumerate(variants):
            if variant.crop and crop is None:
                continue
            sent = encode_variant(image, variant, crop.region if crop and variant.crop else None)
            prediction = model.predict_jpeg(sent.data, MAX_PIXELS)
            answer = _in_frame(prediction, sent, crop if variant.crop else None)
            usual = answer if usual is None else usual
            sizes[row, column], fidelity[row, column] = len(sent.data), agreement(answer, usual)
        if doubts and crop and usual is not None:
            by_edge[row] = agreement(doubts.reported(row), usual)
    return [
        _row(variant, sizes[:, column], fidelity[:, column], sizes[:, 0], by_edge)
        for column, variant in enumerate(variants)
    ]


def _row(
    variant: PictureVariant, sizes: _Column, fidelity: _Column, usual: _Column, by_edge: _Column
) -> VariantRow:
    there = ~np.isnan(sizes)
    if not there.any():
        return VariantRow(variant.name, 0.0, 0.0, 0.0)
    row = VariantRow(
        variant.name, float(sizes[there].mean()), float(fidelity[there].mean()), float(there.mean())
    )
    if not variant.crop:
        return row
    return replace(row, edge_agrees=float(by_edge[there].mean()), usual_bytes=float(usual[there].mean()))


def _in_frame(prediction: Prediction, sent: EncodedImage, crop: Crop | None) -> Prediction:
    """The answer in the frame's pixels, a crop's merged with the boxes around it, as the edge gives it."""
    encoded = EncodedFrame("", "", "", 0, 0.0, sent, rest=crop.rest if crop else None)
    return encoded.in_frame_pixels(prediction)
