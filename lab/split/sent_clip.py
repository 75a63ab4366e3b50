"""A clip's frames as features of one cut, alone and against earlier ones: bytes, and the answers to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spillover.common.features.codec import decode_symbols, encode_next
from spillover.common.features.quantized import Quantized
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session import Model
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import Cut, head_path, open_split_plan, tail_path
from spillover.common.types import FloatArray, Image, Prediction
from spillover.lab.split.extract import Half


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame that was sent: its number, its payload's bytes, and the answer in pixels of the frame."""

    number: int
    payload_bytes: int
    answer: Prediction


@dataclass(frozen=True, slots=True)
class SentClip:
    """What was sent of a clip. `against` has the frames by how many there are from one to the next."""

    alone: Sequence[SentFrame]
    against: Mapping[int, Sequence[SentFrame]]


def send_clip(
    folder: Path, cut: str, images: Iterable[Image], every: Sequence[int], threads: int = 0
) -> SentClip:
    """Send every frame alone, and every k-th against the one that was sent before it, for each k in `every`.

    All goes through the real codec; every call is answered before the next one is made.

    Raises:
        ModelError: the folder has no such cut, or its features are not planned to be coded against others.
    """
    opened = open_model_folder(folder)
    planned = open_split_plan(opened).cut(cut)
    halves = _Halves(opened.path, planned, Model(opened, SessionConfig(threads=threads)), threads)
    dead_zone = planned.inter.dead_zone if planned.inter else 0.0
    alone: list[SentFrame] = []
    against: dict[int, list[SentFrame]] = {age: [] for age in every}
    references: dict[int, Quantized] = {}
    for number, image in enumerate(images):
        features = halves.features(image)
        for age in (age for age in every if number % age == 0):
            reference = references.get(age)
            coded = encode_next(features, halves.quantizers, reference, dead_zone)
            got = references[age] = decode_symbols(
                coded.data, planned.elements, reference if coded.needs_reference else None
            )
            against[age].append(SentFrame(number, len(coded.data), halves.answer(image, got)))
        coded = encode_next(features, halves.quantizers, None, 0.0)
        alone.append(SentFrame(number, len(coded.data), halves.answer(image, coded.quantized)))
    return SentClip(alone, against)


class _Halves:
    """Head and tail of one cut, and what is around them."""

    def __init__(self, folder: Path, cut: Cut, model: Model, threads: int) -> None:
        self._model = model
        self._head, self._tail = (Half(path(folder, cut.name), threads) for path in (head_path, tail_path))
        tensors = [seam.tensor for seam in cut.seams]
        self._outputs = [self._head.output_names.index(name) for name in tensors]
        self._inputs = [tensors.index(spec.name) for spec in self._tail.inputs]
        self.quantizers = [seam.quantizer for seam in cut.seams]

    def features(self, image: Image) -> list[FloatArray]:
        """Of a BGR frame, without batch axis."""
        outputs = self._head.run([self._model.prepare(image)[0][None]])
        return [outputs[place][0] for place in self._outputs]

    def answer(self, image: Image, quantized: Quantized) -> Prediction:
        """The tail's answer, in pixels of the frame."""
        tensors = quantized.tensors()
        outputs = self._tail.run([tensors[place][None] for place in self._inputs])
        return self._model.decode(outputs, 0, self._model.prepare(image)[1])
