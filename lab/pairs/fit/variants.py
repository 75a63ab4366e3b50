"""Bytes and fidelity of smaller pictures, measured on real pictures, and of video, measured on a clip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from spillover.common.errors import InvalidInputError, SourceError
from spillover.common.model.ensemble.opening import load_model
from spillover.common.model.pictures import StepTimings
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks import agreement
from spillover.common.types import Image, Prediction
from spillover.common.video.h264 import load_codec
from spillover.edge.config import PictureVariant, UplinkConfig
from spillover.edge.payload.encoder import VIDEO, encode_variant, usual_variant
from spillover.lab.data.labelled import PictureSet
from spillover.lab.pairs.video.answers import MAX_PIXELS
from spillover.lab.pairs.video.clip import open_clip
from spillover.lab.pairs.video.streamed import BothEnds
from spillover.lab.terminal import Progress

EVERY = 8
"""Of a clip one of so many frames is sent."""
_MOST_SENT = 200
_FACTORS = (23, 28, 33)
"""Rate factors that are measured beside the configured one."""


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
    data: PictureSet,
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


def measure_video(
    cloud: Path, clip: Path, config: UplinkConfig, progress: Progress, threads: int = 0
) -> tuple[list[VariantRow], float]:
    """Rows for `config.video` first, then for other rate factors, and the fidelity with the first.

    One of `EVERY` frames of a video file, or of a folder of pictures, is sent, each coded against the one
    before it; the usual picture of the same frame gives the answers that are to be kept.

    Raises:
        ConfigError: PyAV is not installed.
        ModelError: the model does not load.
        SourceError: it is no clip.
        InvalidInputError: H.264 does not take its pictures.
    """
    load_codec()
    opened = open_clip(clip, fps=None if clip.is_file() else 1.0)
    model = load_model(cloud, SessionConfig(threads=threads))
    usual = usual_variant(config)
    factors = [config.video.crf, *(crf for crf in _FACTORS if crf != config.video.crf)]
    streams = [_Stream(config, crf) for crf in factors]
    frames = enumerate(opened.frames())
    wanted = range(0, min(len(opened), EVERY * _MOST_SENT), EVERY)
    kept = np.zeros((len(wanted), len(streams)))
    for row, number in enumerate(progress.track(wanted, "video")):
        image = next((image for at, image in frames if at == number), None)
        if image is None:
            raise SourceError(f"{clip}: ends before frame {number}")
        sent = encode_variant(image, usual)
        answer = model.predict_jpeg(sent.data, MAX_PIXELS).in_frame(sent.transform)
        for column, stream in enumerate(streams):
            kept[row, column] = agreement(stream.answer(image, model.predict), answer)
    rows = [
        VariantRow(
            f"{VIDEO}, crf {stream.crf}" if stream.crf else VIDEO,
            float(np.mean(stream.sizes)),
            float(fidelity),
        )
        for stream, fidelity in zip(streams, kept.mean(axis=0), strict=True)
    ]
    return rows, rows[0].fidelity


class _Stream:
    """Sends frames as video with one rate factor; every answer comes before the next frame."""

    def __init__(self, config: UplinkConfig, crf: int | None) -> None:
        self.crf = crf
        self.sizes: list[int] = []
        video = msgspec.structs.replace(config.video, crf=crf)
        self._ends = BothEnds(msgspec.structs.replace(config, video=video))

    def answer(self, image: Image, predict: Callable[[Image], tuple[Prediction, StepTimings]]) -> Prediction:
        """The answer to the picture that the server has of this frame."""
        if (sent := self._ends.send(image)) is None:
            raise InvalidInputError("H.264 does not take the clip's pictures: see the log")
        video, picture = sent
        self._ends.acknowledge(video)
        self.sizes.append(len(video.data))
        return predict(picture)[0].in_frame(video.transform)
