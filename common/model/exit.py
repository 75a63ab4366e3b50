"""A network that answers early and also returns its backbone's features: the keys of `exit.yaml`.

`spillover lab early-exit` writes it. The outputs are those of the whole network, then the tensors of one cut,
so after running it that cut's head need not run.
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
    """SHA-256 of the head that equals the backbone."""
    features: tuple[str, ...]
    """The outputs that hold the backbone's features."""


def load_exit_info(folder: Path) -> ExitInfo | None:
    """The folder's `exit.yaml`; None if the model is not an early exit. Raises ModelError."""
    path = folder / EXIT_FILE
    if not path.is_file():
        return None
    try:
        return load_config(path, ExitInfo)
    except ConfigError as error:
        raise ModelError(str(error)) from error


def write_exit_info(folder: Path, info: ExitInfo) -> None:
    """Write `exit.yaml` to the model folder."""
    (folder / EXIT_FILE).write_bytes(msgspec.yaml.encode(msgspec.to_builtins(info)))
