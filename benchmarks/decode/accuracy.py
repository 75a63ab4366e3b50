"""Answers to scaled decodes beside answers to exact ones, on labelled pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import msgspec
import numpy as np

from spillover.common.geometry import FrameTransform
from spillover.common.images import EncodedImage, encode_jpeg
from spillover.common.jpeg import read_header
from spillover.common.model.manifest import Decode, open_model_folder
from spillover.common.model.preprocess import reduction_for
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks import agreement
from spillover.common.types import Image, Prediction
from spillover.lab.data.labelled import LabelledSet
from spillover.lab.pairs.evaluate.classes import judging
from spillover.lab.pairs.evaluate.mixture import accuracy_of
from spillover.lab.pairs.evaluate.predict import seeing_all
from spillover.lab.terminal import Progress

_MAX_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class Form:
    """How pictures are sent: the longer side in pixels (0: as it is) and JPEG's quality."""

    longer_side: int
    quality: int

    @property
    def name(self) -> str:
        """In words."""
        size = f"longer side {self.longer_side}" if self.longer_side else "as it is"
        return f"{size}, quality {self.quality}"

    def encode(self, image: Image) -> EncodedImage:
        """As a camera of this resolution would send it; a smaller picture is enlarged."""
        height, width = image.shape[:2]
        factor = self.longer_side / max(height, width) if self.longer_side else 1.0
        size = round(width * factor), round(height * factor)
        interpolation = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
        resized = cv2.resize(image, size, interpolation=interpolation).astype(np.uint8, copy=False)
        return EncodedImage(
            encode_jpeg(resized, self.quality).data, FrameTransform.resize((width, height), size)
        )


FORMS = (Form(0, 95), Form(1280, 80), Form(1280, 30), Form(1920, 80))


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """One form: accuracy (top-1, or mAP) of both decodes, how much they agree, what share was reduced."""

    form: str
    exact: float
    scaled: float
    agreement: float
    reduced: float


def compare(folder: Path, data: LabelledSet, threads: int, progress: Progress) -> list[AccuracyRow]:
    """Answer each picture in each form twice; boxes of any confidence count.

    Raises:
        ModelError: the model does not load.
        SourceError: a picture cannot be read, or the labels are not of the model's classes.
    """
    data = judging(data, folder)
    opened = seeing_all(open_model_folder(folder))
    session = SessionConfig(threads=threads)
    models = [
        Model(replace(opened, manifest=msgspec.structs.replace(opened.manifest, decode=decode)), session)
        for decode in (Decode.EXACT, Decode.SCALED)
    ]
    return [_row(form, models, data, progress) for form in FORMS]


def _row(form: Form, models: Sequence[Model], data: LabelledSet, progress: Progress) -> AccuracyRow:
    answers: list[tuple[Prediction, ...]] = []
    reduced = []
    for picture in progress.track(data.pictures, form.name):
        sent = form.encode(picture.image())
        answers.append(
            tuple(model.predict_jpeg(sent.data, _MAX_PIXELS).in_frame(sent.transform) for model in models)
        )
        reduced.append(reduction_for(read_header(sent.data), models[1].manifest) > 1)
    exact, scaled = zip(*answers, strict=True)
    return AccuracyRow(
        form=form.name,
        exact=accuracy_of(data.truth, exact),
        scaled=accuracy_of(data.truth, scaled),
        agreement=float(np.mean([agreement(*pair) for pair in zip(scaled, exact, strict=True)])),
        reduced=float(np.mean(reduced)),
    )
