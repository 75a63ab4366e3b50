"""The files that a configuration makes the daemon write, none of which it reads, and their largest sizes."""

import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from spillover.common.errors import ConfigError, ModelError
from spillover.common.home import cache_home
from spillover.common.model.locate import find_model_folder
from spillover.common.model.manifest import MANIFEST_FILE, MODEL_FILE
from spillover.edge.config.daemon import EdgeConfig
from spillover.edge.config.evidence import EvidenceConfig
from spillover.edge.config.policy import BudgetConfig, Period
from spillover.edge.config.sinks import JsonLinesConfig, MqttConfig, SqliteConfig, WebhookConfig

STDOUT = "-"
_SMALL_BYTES = 4096
HEALTH_FILE_BYTES = 10e6


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """One file, or a file with the older ones beside it."""

    key: str
    path: Path
    most_bytes: float | None
    """The most that all of it may take; None: there is no bound."""
    fills_folder: bool = False
    """Whether it stands for all that is in its folder."""


def written_files(config: EdgeConfig) -> Iterator[WrittenFile]:
    """Every file that a daemon with this configuration writes; pipes and devices are none."""
    yield from (written for written in _named(config) if not _is_special(written.path))


def _named(config: EdgeConfig) -> Iterator[WrittenFile]:
    for index, sink in enumerate(config.sinks):
        key = f"sinks[{index}].path"
        if isinstance(sink, JsonLinesConfig) and sink.path != STDOUT:
            most = sink.rotate_mb * 1e6 * (sink.rotate_keep + 1)
            yield WrittenFile(key, Path(sink.path).expanduser(), most or None)
        elif isinstance(sink, SqliteConfig):
            yield WrittenFile(key, Path(sink.path).expanduser(), sink.max_mb * 1e6)
    if config.spool:
        yield WrittenFile("spool.path", Path(config.spool.path).expanduser(), config.spool.max_mb * 1e6)
    if config.evidence:
        yield WrittenFile(
            "evidence.folder", evidence_file(config.evidence), config.evidence.max_mb * 1e6, True
        )
    if config.health.file:
        yield WrittenFile("health.file", Path(config.health.file).expanduser(), HEALTH_FILE_BYTES)
    if config.policy.budget and (path := budget_file(config.policy.budget, config.device_id)):
        yield WrittenFile("policy.budget.state_file", path, _SMALL_BYTES)


def check_written(config: EdgeConfig, config_path: Path) -> None:
    """Refuse to write to a folder, and to a file that is also read, which the next start would find spoiled.

    Raises:
        ConfigError: one of the files is that.
    """
    read = {path.expanduser().resolve(): key for key, path in _read_files(config)}
    read[config_path.resolve()] = "this configuration"
    for written in written_files(config):
        if written.path.is_dir():
            raise ConfigError(f"{written.key}: {written.path} is a folder: name a file")
        if key := read.get(written.path.resolve()):
            raise ConfigError(f"{written.key}: {written.path} would overwrite {key}: name another file")


def _read_files(config: EdgeConfig) -> Iterator[tuple[str, Path]]:
    uplink, tls = config.uplink, config.uplink.tls
    names = [("policy.gain_file", config.policy.gain_file), ("uplink.token_file", uplink.token_file)]
    if tls:
        names += [(f"uplink.tls.{key}", getattr(tls, key)) for key in ("ca", "certificate", "key")]
    names += [("security.tokens_file", config.security.tokens_file)]
    if pages := config.security.tls:
        names += [("security.tls.certificate", pages.certificate), ("security.tls.key", pages.key)]
    for camera in config.all_cameras:
        names += [("camera.source", camera.source), ("camera.password_file", camera.password_file)]
    for index, sink in enumerate(config.sinks):
        if isinstance(sink, MqttConfig | WebhookConfig):
            secret = "password_file" if isinstance(sink, MqttConfig) else "secret_file"
            names += [(f"sinks[{index}].{key}", getattr(sink, key)) for key in (secret, "ca")]
    yield from ((key, Path(name)) for key, name in names if name)
    with suppress(ModelError):  # which says more when the model is loaded
        folder = find_model_folder(config.model.folder)
        yield from ((f"{name} of model.folder", folder / name) for name in (MODEL_FILE, MANIFEST_FILE))


def _is_special(path: Path) -> bool:
    """Whether it is a device such as /dev/null, or a pipe."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def written_folders(config: EdgeConfig) -> list[Path]:
    """The folders of those files, each once; the state folder is among them."""
    paths = [written.path.parent.absolute() for written in written_files(config)]
    return list(dict.fromkeys([*paths, cache_home()]))


def evidence_file(config: EvidenceConfig) -> Path:
    """Stands for all that is in the folder of evidence, which is one daemon's."""
    return Path(config.folder).expanduser() / "evidence"


def budget_file(config: BudgetConfig, device_id: str) -> Path | None:
    """Where the balance of the byte budget is kept; None: nowhere."""
    if config.state_file:
        return Path(config.state_file).expanduser()
    keeps = config.per in {Period.DAY, Period.MONTH}
    return cache_home() / f"budget-{device_id}.json" if keeps else None
