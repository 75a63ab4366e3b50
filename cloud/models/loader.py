"""From the disk into memory: open a version, check it, warm it. Takes seconds, so it runs on a thread."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from spillover.cloud.config import BatchingConfig, CloudConfig
from spillover.cloud.executors.local import Network
from spillover.cloud.models.repository import Entry
from spillover.cloud.models.tails import Tail, open_tails
from spillover.cloud.models.vision import Vision
from spillover.common.errors import ModelError
from spillover.common.model.manifest import MANIFEST_FILE, MODEL_FILE
from spillover.common.model.session import Model, open_session
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import SPLIT_FILE


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """All that decides what a loaded version is like: loading again from an equal one changes nothing."""

    session: SessionConfig
    batching: BatchingConfig
    max_pixels: int
    tails: bool
    files: tuple[tuple[int, int], ...]
    """Modification time in nanoseconds and size of model.onnx, model.yaml and split.yaml."""


def load_spec_of(entry: Entry, config: CloudConfig) -> LoadSpec:
    """The recipe for `entry` as its files and the configuration are now. Raises ModelError when they go."""
    names = (MODEL_FILE, MANIFEST_FILE, SPLIT_FILE)
    paths = [path for name in names if (path := entry.path / name).is_file()]
    try:
        stats = [path.stat() for path in paths]
    except OSError as error:
        raise ModelError(f"{entry.path}: {error}") from error
    batching = config.batching_of.get(entry.model_id.name, config.batching)
    files = tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)
    return LoadSpec(config.session, batching, config.limits.max_pixels, config.models.tails, files)


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A version in memory, not serving yet: its network, what stands around it, its tails by head digest."""

    network: Network
    vision: Vision | None = None
    tails: Mapping[str, Tail] = field(default_factory=dict)


def open_entry(entry: Entry, load_spec: LoadSpec) -> OpenedModel:
    """Open and warm a version; one without a manifest has no vision part.

    Raises:
        ModelError: it is broken, or is not what its folders say.
    """
    if not entry.has_manifest:
        network = Network(entry.model_id, open_session(entry.path / MODEL_FILE, load_spec.session))
        network.warm_up(load_spec.session.warm_up_runs, load_spec.batching.max_batch_size)
        return OpenedModel(network)
    model = Model.load(entry.path, load_spec.session)
    if model.model_id != entry.model_id:
        raise ModelError(f"{entry.path}: model.yaml says {model.model_id}; the folders say {entry.model_id}")
    network = Network(entry.model_id, model.session)
    network.warm_up(1, load_spec.batching.max_batch_size)
    tails = open_tails(model, load_spec.session) if load_spec.tails else {}
    return OpenedModel(network, Vision(model, load_spec.max_pixels), tails)
