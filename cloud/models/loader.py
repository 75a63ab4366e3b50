"""From the disk into memory: open a version, check it, warm it. Takes seconds, so it runs on a thread."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from spillover.cloud.config import BatchingConfig, CloudConfig
from spillover.cloud.executors.base import Executor
from spillover.cloud.executors.local import LocalExecutor
from spillover.cloud.models.repository import Entry
from spillover.cloud.models.tails import Tail, open_tails
from spillover.cloud.models.vision import Vision
from spillover.common.errors import ModelError
from spillover.common.model.ensemble.opening import open_networks
from spillover.common.model.manifest import MANIFEST_FILE, MODEL_FILE, open_model_folder
from spillover.common.model.runtimes.onnxruntime import open_runtime
from spillover.common.model.session import PictureAdapter
from spillover.common.model.session_config import SessionConfig
from spillover.common.model.split import SPLIT_FILE


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """Everything that determines a loaded version; equal specs load equal models."""

    session: SessionConfig
    batching: BatchingConfig
    max_pixels: int
    tails: bool
    files: tuple[tuple[int, int], ...]
    """Modification time in nanoseconds and size of model.onnx, model.yaml and split.yaml, members' too."""
    load_timeout_s: float = field(compare=False)
    """How long loading may take: no part of what is loaded."""


def load_spec_of(entry: Entry, config: CloudConfig) -> LoadSpec:
    """The spec of `entry` by its files and the configuration of now. Raises ModelError without files."""
    names = (MODEL_FILE, MANIFEST_FILE, SPLIT_FILE)
    paths = [path for name in names for depth in ("", "*/") for path in sorted(entry.path.glob(depth + name))]
    try:
        stats = [path.stat() for path in paths]
    except OSError as error:
        raise ModelError(f"{entry.model_id}: {error.strerror or error}") from error
    batching = config.batching_of.get(entry.model_id.name, config.batching)
    files = tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)
    models = config.models
    return LoadSpec(
        config.session, batching, config.limits.max_pixels, models.tails, files, models.load_timeout_s
    )


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A version in memory, not serving yet: its executor, its adapter, its tails by head digest."""

    executor: Executor
    vision: Vision | None = None
    tails: Mapping[str, Tail] = field(default_factory=dict)

    def unused_batch_size(self, batching: BatchingConfig) -> str:
        """Why a `max_batch_size` that somebody chose does nothing for this network; empty where it does."""
        specs, chosen = self.executor.specs, batching.max_batch_size
        rows = specs.fixed_rows or 1
        if specs.batchable or chosen in {rows, BatchingConfig().max_batch_size}:
            return ""
        return (
            f"max_batch_size is {chosen}, but the network takes {rows} at a time and no more: "
            "export it with a free batch axis"
        )


OpenModel = Callable[[Entry, LoadSpec], OpenedModel]
"""Opens a version. Where another kind of executor comes in."""


def open_entry(entry: Entry, load_spec: LoadSpec) -> OpenedModel:
    """Open and warm a version on this machine; one without a manifest has no vision part.

    Raises:
        ModelError: it is broken, or is not what its folders say; paths in it begin at the model's name.
    """
    try:
        entry.check_links()
        return _open(entry, load_spec)
    except ModelError as error:  # also when it refuses what we made up to warm it with: nobody has sent that
        raise ModelError(entry.hide_root(str(error))) from error


def _open(entry: Entry, load_spec: LoadSpec) -> OpenedModel:
    session, rows = load_spec.session, load_spec.batching.max_batch_size
    if not entry.has_manifest:
        executor = LocalExecutor(entry.model_id, open_runtime(entry.network_path, session))
        executor.warm_up(session.warm_up_runs, rows)
        return OpenedModel(executor)
    folder = open_model_folder(entry.path)
    if folder.model_id != entry.model_id:
        raise ModelError(f"{entry.path}: model.yaml says {folder.model_id}; the folders say {entry.model_id}")
    runtime, pictures = open_networks(folder.reporting(), session)
    executor = LocalExecutor(entry.model_id, runtime)
    executor.warm_up(1, rows)
    for _ in range(session.warm_up_runs):
        pictures.try_out(executor.run)
    tails = open_tails(pictures, session) if load_spec.tails and isinstance(pictures, PictureAdapter) else {}
    return OpenedModel(executor, Vision(pictures, load_spec.max_pixels), tails)
