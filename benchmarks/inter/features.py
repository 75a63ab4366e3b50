"""Features of a split detector, each frame alone and as changes to the frame that was sent before it."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.inter.payloads import EVERY, Row, f1_to, row_of
from spillover.common.errors import ModelError
from spillover.common.features.codec import encode_next
from spillover.common.features.quantized import Quantized
from spillover.common.geometry import FrameTransform
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import Cut, head_path, open_split_plan, tail_path
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import NO_BOXES, Detections, FloatArray, Image
from spillover.lab.pairs.video.answers import Answers, answers_of, cached, save, store_of
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.split.extract import Half
from spillover.lab.split.moving import clip_pictures
from spillover.lab.split.plan import SplitOptions, split_model
from spillover.lab.terminal import Progress

CUT = "725"
"""A tensor of YOLOX-nano: 86,528 elements; heads before it are cheap, and later ones have no fewer bytes."""
_PICTURES = 24


@dataclass(frozen=True, slots=True)
class _Way:
    """How frames are coded: alone, or each against the one before it."""

    every: int
    inter: bool

    @property
    def form(self) -> str:
        """As figures call it."""
        return f"features-{CUT}-{'inter' if self.inter else 'intra'}"


def feature_rows(cloud: Path, clip: Clip, out: Path, progress: Progress, threads: int) -> list[Row]:
    """The coding is planned on the first half of the clip, and is the same for all frames.

    Raises:
        ModelError: the network has no such cut, or none of its codings keeps enough of the answers.
    """
    folder = _planned(cloud, clip, out / "split" / clip.path.stem / cloud.parent.name, progress, threads)
    (cut,) = open_split_plan(open_model_folder(folder)).cuts
    if cut.inter is None:
        raise ModelError(f"{folder}: nothing keeps enough of the answers against earlier frames")
    ways = [_Way(every, inter) for inter in (False, True) for every in EVERY]
    truth = answers_of(cloud, clip, None, progress, threads)
    answers = _answers(folder, cut, clip, ways, progress, threads)
    return [
        row_of(way.form, way.every, one, f1_to(truth, one)) for way, one in zip(ways, answers, strict=True)
    ]


def _planned(cloud: Path, clip: Clip, root: Path, progress: Progress, threads: int) -> Path:
    """A copy of the model that is split for this clip; one that is there already is taken."""
    folder = root / cloud.name
    if not (folder / "split.yaml").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(cloud, folder, ignore=shutil.ignore_patterns("split", "split.yaml"))
        options = SplitOptions(cuts=(CUT,), clip=clip.path, threads=threads, rounds=3)
        split_model(folder, clip_pictures(clip.path, _PICTURES), options, progress)
    return folder


def _answers(
    folder: Path, cut: Cut, clip: Clip, ways: Sequence[_Way], progress: Progress, threads: int
) -> list[Answers]:
    opened = open_model_folder(folder)
    coding = msgspec.json.encode((cut.seams, cut.inter)).hex()
    stores = [store_of(opened, clip, f"{way}, {coding}") for way in ways]
    known = [cached(store, len(clip)) for store in stores]
    if None not in known:
        return [one for one in known if one is not None]
    model = Model(opened, SessionConfig(threads=threads))
    head, tail = (Half(path(folder, cut.name), threads) for path in (head_path, tail_path))
    chains = [_Chain(model, cut, tail, way, len(clip)) for way in ways]
    for number, image in _frames(clip, progress):
        tensor, transform = model.prepare(image)
        features = [one[0] for one in head.run([tensor[None]])]
        for chain in chains:
            chain.see(number, features, transform)
    answers = [chain.answers() for chain in chains]
    for store, one in zip(stores, answers, strict=True):
        save(store, one)
    return answers


def _frames(clip: Clip, progress: Progress) -> Iterator[tuple[int, Image]]:
    yield from zip(progress.track(range(len(clip)), "features"), clip.frames(), strict=True)


class _Chain:
    """Frames sent in one way."""

    def __init__(self, model: Model, cut: Cut, tail: Half, way: _Way, count: int) -> None:
        self._model = model
        self._quantizers = [seam.quantizer for seam in cut.seams]
        self._dead_zone = cut.inter.dead_zone if cut.inter else 0.0
        self._tail = tail
        self._way = way
        self._reference: Quantized | None = None
        self._boxes: list[Detections] = [NO_BOXES] * count
        self._sizes = np.zeros(count, np.int64)

    def see(self, number: int, features: Sequence[FloatArray], transform: FrameTransform) -> None:
        """Send the frame if it is its turn."""
        if number % self._way.every:
            return
        coded = encode_next(features, self._quantizers, self._reference, self._dead_zone)
        if self._way.inter:
            self._reference = coded.quantized
        outputs = self._tail.run([tensor[None] for tensor in coded.quantized.tensors()])
        self._boxes[number] = DETECTION.own(self._model.decode(outputs, 0, transform))
        self._sizes[number] = len(coded.data)

    def answers(self) -> Answers:
        """To all frames so far."""
        return Answers(tuple(self._boxes), self._sizes)
