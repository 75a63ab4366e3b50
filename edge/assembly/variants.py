"""Smaller models beside the local one: the configuration of each, and whether it fits in its place."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from spillover.common.config import under_key
from spillover.common.errors import ConfigError
from spillover.common.log import get_logger
from spillover.common.model.ensemble.opening import load_model
from spillover.common.model.locate import find_model_folder
from spillover.common.model.pictures import VisionModel
from spillover.edge.assembly.offload import build_backbone
from spillover.edge.assembly.policy import policy_for
from spillover.edge.config import EdgeConfig
from spillover.edge.health.sensors import kilobytes
from spillover.edge.policy.chain import Policy

_log = get_logger("model")


def with_variant(config: EdgeConfig, variant: int) -> EdgeConfig:
    """The configuration of a device whose model is that variant, from 1 on; 0 is the model itself."""
    if not variant:
        return config
    own = config.model.variants[variant - 1]
    session = config.model.session
    if own.threads is not None:
        session = replace(session, threads=own.threads)
    return replace(
        config,
        model=replace(config.model, folder=own.folder, session=session),
        policy=replace(config.policy, gain_file=own.gain_file),
    )


@contextmanager
def of_variant(variant: int) -> Iterator[None]:
    """Name in errors the variant's key in place of the one that it replaces."""
    try:
        yield
    except ConfigError as error:
        if not variant or not str(error).startswith("policy.gain_file"):
            raise
        text = str(error).removeprefix("policy.")
        raise type(error)(f"model.variants[{variant - 1}].{text}") from error


def policies_for(config: EdgeConfig, models: Sequence[VisionModel]) -> tuple[Policy, ...]:
    """The policies of a device with these models, for cameras that have none of their own.

    Raises:
        ConfigError: a value does not fit a model. The text names the key of a variant.
    """
    found = []
    for variant, model in enumerate(models):
        with of_variant(variant):
            found.append(policy_for(with_variant(config, variant), model))
    return tuple(found)


def open_variants(config: EdgeConfig, model: VisionModel) -> tuple[VisionModel, ...]:
    """Load the variants of `model`.

    Raises:
        ConfigError: one is of another task or has other labels, or cannot be told from another in results;
            or features of `model` are sent.
        ModelError: there is no such folder, or it is damaged. The text begins with the key.
    """
    if config.model.variants and build_backbone(config, model):
        raise ConfigError(
            "model.variants: have no features to send, and uplink.payload wants those of the model"
        )
    opened = [model]
    for index, own in enumerate(config.model.variants):
        before_bytes = _own_bytes()
        with under_key(f"model.variants[{index}].folder"):
            found = load_model(find_model_folder(own.folder), with_variant(config, index + 1).model.session)
            _check_fits(found, opened)
        opened.append(found)
        taken_mb = round((_own_bytes() - before_bytes) / 1e6, 1)
        _log.info("model variant", model=str(found.model_id), memory_mb=taken_mb)
    return tuple(opened[1:])


def _check_fits(found: VisionModel, others: list[VisionModel]) -> None:
    model = others[0]
    if found.folder.task.name != model.folder.task.name:
        raise ConfigError(f"is for {found.folder.task.name}, and model.folder for {model.folder.task.name}")
    if found.folder.labels != model.folder.labels or found.class_count != model.class_count:
        raise ConfigError("has other labels than model.folder: results would change their meaning on the way")
    if found.model_id in [one.model_id for one in others]:
        raise ConfigError(
            f"is {found.model_id}, as another model of this device: results could not tell which answered; "
            "give it a name or version of its own in model.yaml"
        )


def _own_bytes() -> int:
    """Memory of this process that is its own; 0 where the kernel does not tell."""
    return kilobytes(Path("/proc/self/status"), "RssAnon") or 0
