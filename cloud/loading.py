"""From the disk into memory: open a version, check it, warm it. Takes seconds, so it runs on a thread."""

from dataclasses import dataclass

from cloud.config import BatchingConfig, CloudConfig
from cloud.network import Network
from cloud.repository import Entry
from cloud.vision import Vision
from common.errors import ModelError
from common.model.manifest import MANIFEST_FILE, MODEL_FILE
from common.model.session import Model, SessionConfig, open_session


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what a loaded version is like: loading again from an equal one changes nothing."""

    session: SessionConfig
    batching: BatchingConfig
    max_pixels: int
    files: tuple[tuple[int, int], ...]
    """Modification time in nanoseconds and size of model.onnx and model.yaml."""


def recipe_of(entry: Entry, config: CloudConfig) -> Recipe:
    """The recipe for `entry` as its files and the configuration are now. Raises ModelError when they go."""
    paths = [path for path in (entry.path / MODEL_FILE, entry.path / MANIFEST_FILE) if path.is_file()]
    try:
        stats = [path.stat() for path in paths]
    except OSError as error:
        raise ModelError(f"{entry.path}: {error}") from error
    batching = config.batching_of.get(entry.model_id.name, config.batching)
    files = tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)
    return Recipe(config.session, batching, config.limits.max_pixels, files)


def open_entry(entry: Entry, recipe: Recipe) -> tuple[Network, Vision | None]:
    """Open and warm a version; one without a manifest has no vision part.

    Raises:
        ModelError: it is broken, or is not what its folders say.
    """
    if not entry.has_manifest:
        network = Network(entry.model_id, open_session(entry.path / MODEL_FILE, recipe.session))
        network.warm_up(recipe.session.warm_up_runs)
        return network, None
    model = Model.load(entry.path, recipe.session)
    if model.model_id != entry.model_id:
        raise ModelError(f"{entry.path}: model.yaml says {model.model_id}; the folders say {entry.model_id}")
    network = Network(entry.model_id, model.session)
    network.warm_up(1)
    return network, Vision(model, recipe.max_pixels)
