"""Golden pictures: what a bundle's model answered to them where it was packed, and whether it does so here.

Integer networks are not equal bit by bit on all processors, so answers need not be equal either: on average
over the pictures they must agree as far as the bundle says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from spillover.common.errors import InvalidInputError, ModelError
from spillover.common.files import read_regular
from spillover.common.model.pictures import VisionModel

GOLDEN_FILE = "golden.json"
LEAST_AGREEMENT = 0.9
"""Mean agreement with the recorded answers: share of equal classes, or F1 of the boxes."""
_MOST_PIXELS = 25_000_000
_MOST_BYTES = 16 << 20
_MOST_PICTURES = 64


class GoldenPicture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One picture, and the answer as the columns of its task."""

    file: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,4}\.jpg$")]
    answer: dict[str, list[Any]]


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `golden.json`."""

    pictures: Annotated[tuple[GoldenPicture, ...], msgspec.Meta(min_length=1, max_length=_MOST_PICTURES)]
    least_agreement: Annotated[float, msgspec.Meta(ge=0, le=1)] = LEAST_AGREEMENT


def golden_files(
    model: VisionModel, pictures: Sequence[Path], folder: Path, least_agreement: float = LEAST_AGREEMENT
) -> list[Path]:
    """Record what `model` answers to these JPEG files; `folder` gets the answers and a copy of each picture.

    Raises:
        ModelError: the model fails on one of them.
        InvalidInputError: one is no JPEG, or there are none or too many.
    """
    if not 0 < len(pictures) <= _MOST_PICTURES:
        raise InvalidInputError(f"golden pictures: {len(pictures)}; a bundle takes 1 to {_MOST_PICTURES}")
    recorded, written = [], []
    for number, path in enumerate(pictures):
        copy = folder / f"{number}.jpg"
        data = _read(path)
        copy.write_bytes(data)
        written.append(copy)
        try:
            answer = _answer(model, data)
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}: {error}") from error
        recorded.append(GoldenPicture(copy.name, answer))
    golden = folder / GOLDEN_FILE
    golden.write_bytes(msgspec.json.encode(Golden(tuple(recorded), least_agreement)) + b"\n")
    return [golden, *written]


def check_golden(model: VisionModel, folder: Path) -> float:
    """Mean agreement with the recorded answers in `folder`.

    Raises:
        ModelError: it is too low, the model fails, or the files are damaged.
    """
    try:
        golden = msgspec.json.decode(_read(folder / GOLDEN_FILE), type=Golden)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder / GOLDEN_FILE}: {error}") from error
    task, least = model.folder.task, model.manifest.output.reported_from
    found = []
    for picture in golden.pictures:
        try:
            expected = task.from_columns(picture.answer)
            answer = task.from_columns(_answer(model, _read(folder / picture.file)))
        except (InvalidInputError, KeyError) as error:
            raise ModelError(f"{folder / picture.file}: {error}") from error
        found.append(task.agreement(answer, expected, least))
    mean = sum(found) / len(found)
    if mean < golden.least_agreement:
        worst = golden.pictures[found.index(min(found))].file
        raise ModelError(
            f"model {model.model_id} answers otherwise here than where it was packed: agreement {mean:.2f} "
            f"on {len(found)} golden pictures, least on {worst}; {golden.least_agreement:.2f} is needed"
        )
    return mean


def _answer(model: VisionModel, jpeg: bytes) -> dict[str, list[Any]]:
    """The answer's columns, rounded as in a record. Raises ModelError also for boxes that are not finite."""
    task = model.folder.task
    prediction = model.predict_jpeg(jpeg, _MOST_PIXELS)
    if (boxes := prediction.boxes) is not None and boxes.not_finite:
        raise ModelError(f"model {model.model_id}: {boxes.not_finite} boxes are not finite")
    columns = task.columns_of(task.own(prediction))
    return {name: task.columns[name].rounded(array.reshape(-1)) for name, array in columns.items()}


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
