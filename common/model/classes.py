"""Classes as configurations name them, by label or number."""

from collections.abc import Iterable, Sequence

from spillover.common.config.words import closest
from spillover.common.errors import ConfigError

_NAMED = 10
"""Labels that an error lists."""


def class_ids(names: Iterable[str | int], labels: Sequence[str], count: int | None, key: str) -> list[int]:
    """The numbers of classes that the model can predict; any other would silently do nothing.

    `count` is the number of the model's classes, None where neither labels nor network tell it.

    Raises:
        ConfigError: the model does not have one. The text begins with `key` and names all that are wrong.
    """
    names = tuple(names)
    known = count if count is not None else len(labels) or None
    unknown = [text for name in names if (text := _unknown(name, labels, known))]
    if unknown:
        raise ConfigError(f"{key}: the model has no class {', no '.join(unknown)}")
    return [name if isinstance(name, int) else labels.index(name) for name in names]


def _unknown(name: str | int, labels: Sequence[str], count: int | None) -> str:
    """`name`, with what would be right, if the model does not have it; else empty."""
    if isinstance(name, int):
        if name >= 0 and (count is None or name < count):
            return ""
        return f"{name} (it has {f'0 to {count - 1}' if count is not None else 'numbers from 0'})"
    if name in labels:
        return ""
    close = closest(name, labels)
    some = ", ".join([*labels[:_NAMED], *(["..."] if len(labels) > _NAMED else [])]) or "numbers, no names"
    return f"{name!r} ({f'did you mean {close}?' if close else f'it has {some}'})"
