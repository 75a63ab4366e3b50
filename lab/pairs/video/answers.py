"""Both models' answers to each frame of a clip, cached on disk; pictures are really encoded and decoded."""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from spillover.common.files import write_atomic
from spillover.common.home import cache_home
from spillover.common.model.ensemble.opening import open_model
from spillover.common.model.manifest import ModelFolder, open_model_folder
from spillover.common.model.pictures import VisionModel
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks.detection import DETECTION
from spillover.common.types import Detections, Image
from spillover.edge.config import PictureVariant
from spillover.edge.payload.encoder import encode_variant
from spillover.lab.pairs.evaluate.predict import CODE_VERSION, load_cached, save_predictions
from spillover.lab.pairs.video.clip import Clip
from spillover.lab.terminal import Progress

MAX_PIXELS = 100_000_000

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """One model's boxes of each frame in pixels of the frame, and what each frame took as a payload."""

    boxes: tuple[Detections, ...]
    payload_bytes: Counts
    """Bytes of each frame's payload, (N,); 0 where it was not sent, or the model saw the frame itself."""


def answers_of(
    folder: Path, clip: Clip, variant: PictureVariant | None, progress: Progress, threads: int = 0
) -> Answers:
    """What the model in `folder` says of each frame: of its pixels, or of the picture that `variant` makes.

    The model runs as its daemon or server runs it, with the thresholds of its model.yaml.

    Raises:
        ModelError: the model cannot be loaded or run.
        SourceError: the clip cannot be read.
    """
    opened = open_model_folder(folder)
    store = store_of(opened, clip, variant.name if variant else "")
    if (known := cached(store, len(clip))) is not None:
        return known
    model = open_model(opened, SessionConfig(threads=threads))
    boxes, sizes = [], []
    label = f"{model.model_id}, {variant.name if variant else 'every frame'}"
    for image, _ in zip(clip.frames(), progress.track(range(len(clip)), label), strict=True):
        found, size = _ask(model, image, variant)
        boxes.append(found)
        sizes.append(size)
    answers = Answers(tuple(boxes), np.array(sizes, np.int64))
    save(store, answers)
    return answers


def _ask(model: VisionModel, image: Image, variant: PictureVariant | None) -> tuple[Detections, int]:
    if variant is None:
        return DETECTION.own(model.predict(image)[0]), 0
    sent = encode_variant(image, variant)
    prediction = model.predict_jpeg(sent.data, MAX_PIXELS).in_frame(sent.transform)
    return DETECTION.own(prediction), len(sent.data)


def store_of(folder: ModelFolder, clip: Clip, form: str) -> Path:
    """The cache file; its name follows from model, clip, form and the version of the code."""
    key = json.dumps([CODE_VERSION, msgspec.to_builtins(folder.manifest), clip.digest, form], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()
    return cache_home() / "predictions" / f"{folder.manifest.name}-{digest[:32]}.npz"


def save(store: Path, answers: Answers) -> None:
    """Keep the answers to a clip."""
    save_predictions(store, answers.boxes)
    content = io.BytesIO()
    np.save(content, answers.payload_bytes, allow_pickle=False)
    write_atomic(_sizes(store), content.getvalue())


def cached(store: Path, count: int) -> Answers | None:
    """What was kept for so many frames; None where nothing was, or it is damaged."""
    predictions = load_cached(store, count)
    if predictions is None:
        return None
    try:
        with _sizes(store).open("rb") as file:
            sizes = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    boxes = tuple(map(DETECTION.own, predictions))
    return Answers(boxes, sizes) if sizes.shape == (count,) and sizes.dtype == np.int64 else None


def _sizes(store: Path) -> Path:
    return store.with_suffix(".bytes.npy")
