"""Paths in load.yaml are relative to the file: from whichever folder the test is started, it is the same."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from spillover.lab.files import merged, nested
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.pairs.replay.trace import MODELS

_LISTENER_FILES = ("security.tokens_file", "security.tls.certificate", "security.tls.key")
_EDGE_FILES = (
    *_LISTENER_FILES,
    "policy.gain_file",
    "uplink.token_file",
    "uplink.tls.ca",
    "uplink.tls.certificate",
    "uplink.tls.key",
)
EDGE_MODELS = ("model.folder", "uplink.split.folder", "uplink.oip.manifest")
_CLOUD_FILES = (
    "models.repository",
    *_LISTENER_FILES,
    "security.tls.client_ca",
    "security.tls.crl",
    "security.forwarded.client_ca",
    "security.forwarded.crl",
)


def placed(config: LoadConfig, folder: Path) -> LoadConfig:
    """The same test with every relative path below `folder`; names of prepared models and traces stay."""
    here = folder.absolute()
    replace = msgspec.structs.replace
    scenarios = {
        name: replace(
            one,
            source=_file(one.source, here),
            sources=tuple(_file(source, here) for source in one.sources),
            edge_model=_model(one.edge_model, here),
            cloud_model=_model(one.cloud_model, here),
        )
        for name, one in config.scenarios.items()
    }
    links = {
        name: one if one.trace in MODELS else replace(one, trace=_file(one.trace, here))
        for name, one in config.links.items()
    }
    return replace(
        config,
        scenarios=scenarios,
        links=links,
        edge_model=_model(config.edge_model, here),
        cloud_model=_model(config.cloud_model, here),
        edge=placed_edge(config.edge, here),
        modes={name: placed_edge(mode, here) for name, mode in config.modes.items()},
        cloud=replace(config.cloud, config=changed(config.cloud.config, _CLOUD_FILES, here, _file)),
    )


def placed_edge(keys: Mapping[str, Any], here: Path) -> dict[str, Any]:
    """An edge.yaml, or changes to one, with every relative path below `here`."""
    return changed(changed(keys, _EDGE_FILES, here, _file), EDGE_MODELS, here, _model)


def changed(
    keys: Mapping[str, Any], dotted: tuple[str, ...], here: Path, place: Callable[[str, Path], str]
) -> dict[str, Any]:
    """The same keys, those of `dotted` that are there with their paths placed."""
    found = {key: _value(keys, key) for key in dotted}
    changes = [nested(key, place(path, here)) for key, path in found.items() if isinstance(path, str)]
    return merged(keys, *changes)


def _value(keys: Mapping[str, Any], dotted: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """The value of a dotted key; None where a part of it is missing."""
    value: Any = keys
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _file(path: str, here: Path) -> str:
    """A relative path below `here`; empty ones, and those that begin with a variable or a home, stay."""
    return path if not path or path.startswith(("$", "~", "/")) else str(here / path)


def _model(name: str, here: Path) -> str:
    """A model folder beside the file, else the name as it is: that of a prepared model."""
    return str(here / name) if name and (here / name).is_dir() else name
