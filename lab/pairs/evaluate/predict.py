"""Predictions of one model over a labelled set, cached on disk."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from spillover.common.files import write_atomic
from spillover.common.home import cache_home
from spillover.common.model.ensemble.opening import open_model
from spillover.common.model.manifest import ModelFolder, open_model_folder
from spillover.common.model.session_config import SessionConfig
from spillover.common.tasks import TASKS, spec_for
from spillover.common.types import Prediction
from spillover.edge.config import MultiViewConfig
from spillover.edge.inference.multi_view import build_multi_view
from spillover.lab.data.labelled import PictureSet
from spillover.lab.terminal import Progress

# Average precision counts boxes of any confidence; COCO's usual floor.
ALL_BOXES = 0.01
# Raised when pictures are prepared or outputs decoded in another way, so that no old predictions are read.
CODE_VERSION = 3


def predict_all(
    folder: Path,
    data: PictureSet,
    progress: Progress,
    threads: int = 0,
    views: MultiViewConfig | None = None,
    *,
    cached: bool = True,
    calibrated: bool = True,
) -> list[Prediction]:
    """Predictions of the model in `folder` for each picture, in order; boxes down to confidence 0.01.

    `views` predicts from several views of a picture, as the edge does; not `calibrated`, boxes keep the
    network's own confidence.

    Raises:
        ModelError: the model cannot be loaded or run.
        SourceError: a picture cannot be read.
    """
    opened = seeing_all(open_model_folder(folder) if calibrated else uncalibrated(open_model_folder(folder)))
    store = _store(opened, data, views)
    if cached and (known := load_cached(store, len(data.pictures))) is not None:
        return known
    model = open_model(opened, SessionConfig(threads=threads))
    predict = build_multi_view(views, model, opened.task).predict
    predictions = [predict(p.image())[0] for p in progress.track(data.pictures, str(model.model_id))]
    if cached:
        save_predictions(store, predictions)
    return predictions


def save_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write predictions of one kind to an .npz, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    task = spec_for(predictions[0])
    fields = [task.columns_of(prediction) for prediction in predictions]
    arrays = {name: np.concatenate([f[name] for f in fields]) for name in task.columns}
    counts = np.array([len(f[next(iter(task.columns))]) for f in fields])
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, counts=counts, **arrays)
    write_atomic(path, content.getvalue())


def load_predictions(path: Path) -> list[Prediction]:
    """Read what `save_predictions` wrote."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        ends = np.cumsum(arrays["counts"])[:-1]
        parts = {name: np.split(arrays[name], ends) for name in arrays.files if name != "counts"}
    task = next(task for task in TASKS.values() if task.columns.keys() == parts.keys())
    rows = zip(*(parts[name] for name in task.columns), strict=True)
    return [task.prediction(*arrays) for arrays in rows]


def load_cached(store: Path, count: int) -> list[Prediction] | None:
    """What `save_predictions` has kept for `count` pictures; None for nothing, or a damaged file."""
    try:
        predictions = load_predictions(store)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        StopIteration,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        return None
    return predictions if len(predictions) == count else None


def seeing_all(folder: ModelFolder) -> ModelFolder:
    """The same folder with a confidence threshold low enough for average precision."""
    output = folder.manifest.output
    least = (
        float(output.calibration.apply(np.array([ALL_BOXES], np.float32))[0])
        if output.calibration
        else ALL_BOXES
    )
    low = msgspec.structs.replace(output, confidence_threshold=min(output.confidence_threshold, least))
    members = tuple(map(seeing_all, folder.members))
    return replace(folder, manifest=msgspec.structs.replace(folder.manifest, output=low), members=members)


def uncalibrated(folder: ModelFolder) -> ModelFolder:
    """The same folder without the map to another model's scale, and without a threshold on that scale."""
    output = msgspec.structs.replace(folder.manifest.output, calibration=None, confidence_threshold=ALL_BOXES)
    return replace(folder, manifest=msgspec.structs.replace(folder.manifest, output=output))


def _store(folder: ModelFolder, data: PictureSet, views: MultiViewConfig | None) -> Path:
    """The cache file; its name follows from network, manifest, every picture's content and `CODE_VERSION`."""
    manifests = [one.manifest for one in (folder, *folder.members)]
    manifest = json.dumps(msgspec.to_builtins((manifests, views)), sort_keys=True)
    digest = _digest([str(CODE_VERSION), manifest, data_digest(data)])
    return cache_home() / "predictions" / f"{folder.manifest.name}-{digest[:32]}.npz"


def data_digest(data: PictureSet) -> str:
    """Hex SHA-256 over every picture's content in order, without the labels."""
    return _digest(picture.digest() for picture in data.pictures)


def _digest(texts: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for text in texts:
        whole.update(text.encode() + b"\n")
    return whole.hexdigest()
