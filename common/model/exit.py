"""A network that answers early and also gives its backbone's features: the keys of `exit.yaml`.

Written by `spillover lab early-exit`. Such a network's outputs are those of the whole network, then the
tensors of one cut: whoever has run it need not run that cut's head.
"""

from pathlib import Path

import msgspec

from spillover.common.config import Section, load_config
from spillover.common.errors import ConfigError, ModelError
from spillover.common.model.split import Digest

EXIT_FILE = "exit.yaml"


class ExitInfo(Section, frozen=True):
    """The whole of `exit.yaml`, which `spillover lab early-exit` writes."""

    head_sha256: Digest
    """SHA-256 of the head that the backbone equals."""
    features: tuple[str, ...]
    """The outputs that hold its features."""


def load_exit_info(folder: Path) -> ExitInfo | None:
    """What the folder says of its backbone; None when the model is no early exit. Raises ModelError."""
    path = folder / EXIT_FILE
    if not path.is_file():
        return None
    try:
        return load_config(path, ExitInfo)
    except ConfigError as error:
        raise ModelError(str(error)) from error


def write_exit_info(folder: Path, info: ExitInfo) -> None:
    """Write `exit.yaml`."""
    (folder / EXIT_FILE).write_bytes(msgspec.yaml.encode(msgspec.to_builtins(info)))
