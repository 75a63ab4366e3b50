"""What the ladder's smaller pictures cost and keep, on real pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.agreement import agreement
from common.images import EncodedImage, decode_jpeg
from common.model.manifest import open_model_folder
from common.model.session import Model
from common.model.session_config import SessionConfig
from common.types import Detections, Prediction
from edge.config import Rung
from edge.parcel import encode_rung
from lab.data.labelled import LabelledSet
from lab.progress import Progress

MAX_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class RungRow:
    """`kept` is the mean agreement of the cloud's answers with those to the first rung's pictures."""

    name: str
    mean_bytes: float
    kept: float


def measure_rungs(
    cloud: Path, data: LabelledSet, rungs: Sequence[Rung], progress: Progress, threads: int = 0
) -> list[RungRow]:
    """Encode, decode and answer every picture in every form; the first rung is the usual one.

    Raises:
        ModelError: the model does not load.
        SourceError: a picture cannot be read.
    """
    model = Model(open_model_folder(cloud), SessionConfig(threads=threads))
    sizes, kept = np.zeros((len(data.pictures), len(rungs))), np.ones((len(data.pictures), len(rungs)))
    for row, picture in enumerate(progress.track(data.pictures, "ladder")):
        image = picture.image()
        sent = [encode_rung(image, rung) for rung in rungs]
        answers = [model.predict(decode_jpeg(one.data, MAX_PIXELS))[0] for one in sent]
        sizes[row] = [len(one.data) for one in sent]
        told = [_in_frame(answer, one) for answer, one in zip(answers, sent, strict=True)]
        kept[row] = [agreement(answer, told[0]) for answer in told]
    means = zip(rungs, sizes.mean(axis=0).tolist(), kept.mean(axis=0).tolist(), strict=True)
    return [RungRow(rung.name, size, share) for rung, size, share in means]


def _in_frame(prediction: Prediction, sent: EncodedImage) -> Prediction:
    if not isinstance(prediction, Detections):
        return prediction
    scale = np.array([sent.scale_x, sent.scale_y] * 2, np.float32)
    offset = np.array([sent.offset_x, sent.offset_y] * 2, np.float32)
    return replace(prediction, xyxy=prediction.xyxy / scale + offset)
