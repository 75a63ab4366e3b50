"""The reference that answers are judged by: the cloud model's answers to the source, and its labels."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from spillover.common.errors import SourceError
from spillover.common.model.ensemble.opening import load_model
from spillover.common.model.manifest import open_model_folder
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks import agreement, spec_for
from spillover.common.tasks.base import NOTHING
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import NO_BOXES, Detections, Prediction
from spillover.edge.camera.folder import is_image
from spillover.edge.camera.open import open_source
from spillover.lab.data.labelled import (
    COCO_FILE,
    IMAGES_FOLDER,
    LABELS_FILE,
    ClassLabels,
    LabelledSet,
    open_labelled_set,
)
from spillover.lab.data.pictures import camera_pictures
from spillover.lab.files import sample_clip, write_whole
from spillover.lab.loadtest.outcomes import Answered
from spillover.lab.pairs.evaluate.classes import judging
from spillover.lab.pairs.evaluate.mixture import accuracy_of
from spillover.lab.pairs.evaluate.predict import predict_all
from spillover.lab.pairs.video.answers import answers_of
from spillover.lab.pairs.video.clip import open_clip
from spillover.lab.pairs.video.labels import Truth, read_mot
from spillover.lab.records import prediction_of
from spillover.lab.terminal import Progress

SEQUENCE_PICTURES, _SEQUENCE_LABELS = "img1", "gt/gt.txt"
"""MOTChallenge's places in the folder of a sequence."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One source. Edges play `camera_source`, over and over, from picture `skip` on."""

    camera_source: str
    cloud: tuple[Prediction, ...]
    """The cloud model's answers, uncompressed and without a deadline, in the camera's order."""
    labels: LabelledSet | None = None
    order: Mapping[str, int] | None = None
    """With labels: the position in `labels` of each file."""
    objects: Truth | None = None
    """Numbered objects of each picture, in the camera's order, where the source has them."""
    skip: int = 0

    @property
    def count(self) -> int:
        """Pictures in one pass."""
        return len(self.cloud)

    def place(self, number: int) -> int:
        """Which picture the frame of that number is."""
        return (number + self.skip) % self.count

    @property
    def change_share(self) -> float | None:
        """Share of the pictures, from the second on, where the cloud's best class is not the one before.

        None where answers say where things are, and for a single picture. It bounds the use of one frame's
        answer for the next.
        """
        best = [prediction.top_class for prediction in self.cloud if prediction.boxes is None]
        if len(best) < 2:
            return None
        return float(np.mean(np.diff(best) != 0))

    def objects_at(self, numbers: Sequence[int]) -> Truth | None:
        """What is in these frames: labelled objects, else the cloud model's boxes; None for classifiers.

        An object has another number in each pass over the source.
        """
        places = [self.place(number) for number in numbers]
        if self.objects is not None and self.objects.ids is not None:
            ids = self.objects.ids
            step = 1 + max((int(of_frame.max()) for of_frame in ids if len(of_frame)), default=0)
            passes = [(number + self.skip) // self.count for number in numbers]
            return Truth(
                tuple(self.objects.boxes[place] for place in places),
                tuple(ids[place] + turn * step for place, turn in zip(places, passes, strict=True)),
                self.objects.classes,
            )
        boxes = [one for one in (self.cloud[place] for place in places) if isinstance(one, Detections)]
        return Truth(tuple(boxes)) if boxes and len(boxes) == len(numbers) else None

    def agreement(self, frames: Mapping[int, Answered], *, final: bool = False) -> float | None:
        """Mean agreement of first (or final) answers with the cloud's model; None without frames."""
        values = [
            agreement(prediction_of(frame.final if final else frame.first), self.cloud[self.place(number)])
            for number, frame in frames.items()
        ]
        return float(np.mean(values)) if values else None

    def accuracy(self, frames: Mapping[int, Answered]) -> float | None:
        """Top-1 accuracy, or mAP, of the first answers; None without labels or frames.

        A picture that was played twice counts the first time. For mAP every picture counts; one that was
        never answered has no boxes.
        """
        if self.labels is None or self.order is None or not frames:
            return None
        answers: dict[int, Prediction] = {}
        for number in sorted(frames):
            record = frames[number].first
            answers.setdefault(self.order[record.source], prediction_of(record))
        if isinstance(self.labels.truth, ClassLabels):
            return accuracy_of(self.labels.part(list(answers)).truth, list(answers.values()))
        boxes = [answers.get(index, NO_BOXES) for index in range(len(self.labels.pictures))]
        return accuracy_of(self.labels.truth, boxes)


def open_reference(source: str, cloud_model: Path, progress: Progress) -> Reference:
    """Resolve a scenario's `source` and run the cloud's model over every picture of it.

    A detector's answers to a video are kept in the cache folder.

    Raises:
        SourceError: there is no such source, or no picture in it can be read.
        ModelError: the cloud's model does not load.
    """
    where = expand_source(source)
    path = Path(where)
    if (path / LABELS_FILE).is_file() or (path / COCO_FILE).is_file():
        return _labelled(path, cloud_model, progress)
    if (path / SEQUENCE_PICTURES).is_dir() and (path / _SEQUENCE_LABELS).is_file():
        return _sequence(path, cloud_model, progress)
    if open_model_folder(cloud_model).task is DETECTION and path.is_file() and not is_image(path):
        clip = open_clip(path)
        return Reference(where, answers_of(cloud_model, clip, None, progress).boxes)
    return Reference(where, tuple(_ask_model(where, cloud_model, progress)))


def write_reference(reference: Reference, path: Path) -> None:
    """Write the cloud model's answers, one line a picture, rows as in a record. Raises SpilloverError."""
    lines = []
    for prediction in reference.cloud:
        task = spec_for(prediction)
        lines.append(msgspec.json.encode({task.record_key: task.rows(prediction, (), NOTHING)}))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, b"\n".join(lines) + b"\n")


def _sequence(folder: Path, cloud_model: Path, progress: Progress) -> Reference:
    """A sequence of MOTChallenge, with its objects."""
    pictures = folder / SEQUENCE_PICTURES
    answers = tuple(_ask_model(str(pictures), cloud_model, progress))
    objects = read_mot(folder / _SEQUENCE_LABELS, len(answers), open_model_folder(cloud_model))
    return Reference(str(pictures), answers, objects=objects)


def expand_source(source: str) -> str:
    """The path that `source` means, with `~` and `$NAME` replaced; the sample clip when it is empty.

    Raises:
        SourceError: there is no such path, or a variable is not set.
    """
    if not source:
        return str(sample_clip())
    where = os.path.expanduser(os.path.expandvars(source))  # noqa: PTH111 - it may be no path at all
    if "$" in where:
        raise SourceError(f"source {source!r} names a variable that is not set")
    if not Path(where).exists():
        raise SourceError(f"source {where!r}: no such file or folder; a load test cannot play a live camera")
    return where


def _labelled(folder: Path, cloud_model: Path, progress: Progress) -> Reference:
    labels = judging(open_labelled_set(folder), cloud_model)
    pictures = folder / IMAGES_FOLDER if (folder / IMAGES_FOLDER).is_dir() else folder
    order = {picture.name: index for index, picture in enumerate(labels.pictures)}
    played = sorted(order)
    on_disk = sorted(p.name for p in pictures.iterdir() if p.name in order)
    if on_disk != played:
        raise SourceError(
            f"{folder}: labels and pictures differ; {len(played)} labels, {len(on_disk)} pictures"
        )
    answers = predict_all(cloud_model, labels, progress)
    return Reference(str(pictures), tuple(answers[order[name]] for name in played), labels, order)


def _ask_model(source: str, cloud_model: Path, progress: Progress) -> Sequence[Prediction]:
    model = load_model(cloud_model, SessionConfig())
    pictures = progress.track(camera_pictures(open_source(source)), "cloud model, every frame")
    answers = [model.predict(picture.image)[0] for picture in pictures]
    if not answers:
        raise SourceError(f"no picture could be read from {source}")
    return answers
