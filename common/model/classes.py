"""Classes as configurations name them, by label or number."""

from collections.abc import Iterable, Sequence

from spillover.common.config.words import did_you_mean
from spillover.common.errors import ConfigError


def class_ids(names: Iterable[str | int], labels: Sequence[str], count: int | None, key: str) -> list[int]:
    """The numbers of classes that the model can predict; any other would silently do nothing.

    `count` is the number of the model's classes, None where neither labels nor network tell it.

    Raises:
        ConfigError: the model has no such class. The text begins with `key`.
    """
    return [
        _class_id(name, labels, count if count is not None else len(labels) or None, key) for name in names
    ]


def _class_id(name: str | int, labels: Sequence[str], count: int | None, key: str) -> int:
    if isinstance(name, int):
        if name < 0 or (count is not None and name >= count):
            known = f"0 to {count - 1}" if count is not None else "counted from 0"
            raise ConfigError(f"{key}: the model has no class {name}; its classes are {known}")
        return name
    if name not in labels:
        known = f"; its classes are {_some(labels)}" if labels else "; it has no labels, so use numbers"
        raise ConfigError(f"{key}: the model has no class {name!r}{did_you_mean(name, labels) or known}")
    return labels.index(name)


def _some(labels: Sequence[str]) -> str:
    """All labels where they are few, else the first."""
    shown = ", ".join(labels[:10])
    return shown if len(labels) <= 10 else f"{shown} and {len(labels) - 10} more"
