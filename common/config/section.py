"""The base of every configuration structure, and what its keys must fulfil together."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import msgspec

Mistake = tuple[str, str]
"""The key, from its section on, empty for the section itself; and what is wrong, as a sentence without it."""


class MistakesError(ValueError):
    """What the keys of one section do not fulfil together."""

    def __init__(self, found: Sequence[Mistake]) -> None:
        super().__init__("; ".join(f"{key}: {text}" if key else text for key, text in found))
        self.found = tuple(found)


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every configuration structure: immutable, and an unknown key is an error."""

    reads_environment: ClassVar[bool] = False
    """Of the root of a file: whether `${NAME}` in its texts is the environment variable of that name.

    Never where a file comes from elsewhere, as a model's: its texts go to callers.
    """

    def checks(self) -> Iterable[Iterable[Mistake]]:
        """What the keys must fulfil together. Each check is a generator and stands alone.

        A check that asks for a key that could not be read is left out, and the others are not.
        """
        return ()

    def __post_init__(self) -> None:
        """Refuse what `checks` finds."""
        if found := [mistake for check in self.checks() for mistake in check]:
            raise MistakesError(found)


def changed_keys(one: msgspec.Struct, other: msgspec.Struct, prefix: str = "") -> Iterator[str]:
    """The dotted keys in which two configurations differ; of a section that one of them lacks, its name."""
    for field in msgspec.structs.fields(one):
        before, after = getattr(one, field.name), getattr(other, field.name)
        if before == after:
            continue
        if isinstance(before, msgspec.Struct) and type(before) is type(after):
            yield from changed_keys(before, after, f"{prefix}{field.encode_name}.")
        else:
            yield f"{prefix}{field.encode_name}"
