"""Bytes and fidelity of smaller pictures, measured on real pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spillover.common.model.ensemble.opening import load_model
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks import agreement
from spillover.edge.config import PictureVariant
from spillover.edge.payload.encoder import encode_variant
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.terminal import Progress

MAX_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class VariantRow:
    """One variant."""

    name: str
    mean_bytes: float
    fidelity: float
    """Mean agreement of the cloud's answers with those to the first variant."""

    def sentence(self) -> str:
        """The row in words."""
        return f"{self.name}: {self.mean_bytes:.0f} bytes, keeps {self.fidelity:.1%} of the cloud's answers"


def measure_variants(
    cloud: Path,
    data: LabelledSet,
    variants: Sequence[PictureVariant],
    progress: Progress,
    threads: int = 0,
) -> list[VariantRow]:
    """Encode, decode and answer every picture in every form; the first variant is the usual one.

    Raises:
        ModelError: the model does not load.
        SourceError: a picture cannot be read.
    """
    model = load_model(cloud, SessionConfig(threads=threads))
    shape = len(data.pictures), len(variants)
    sizes, fidelity = np.zeros(shape), np.zeros(shape)
    for row, picture in enumerate(progress.track(data.pictures, "variants")):
        image, usual = picture.image(), None
        for column, variant in enumerate(variants):
            sent = encode_variant(image, variant)
            answer = model.predict_jpeg(sent.data, MAX_PIXELS).in_frame(sent.transform)
            usual = answer if usual is None else usual
            sizes[row, column], fidelity[row, column] = len(sent.data), agreement(answer, usual)
    return [
        VariantRow(variant.name, float(size), float(kept))
        for variant, size, kept in zip(variants, sizes.mean(axis=0), fidelity.mean(axis=0), strict=True)
    ]
