"""A bundle as signed metadata lists it: one value for the operator who signs, the server and the device."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from spillover.common.bundle.format import SignedNote
from spillover.common.errors import InvalidInputError

MOST_METADATA_BYTES = 1 << 20
"""Of one file of metadata."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bundle that the targets key has signed."""

    sha256: str
    size_bytes: int
    note: SignedNote

    @property
    def files(self) -> Mapping[str, int]:
        """Sizes in bytes of the bundle and its patches, by digest."""
        patches = {patch.sha256: patch.size_bytes for patch in self.note.patches.values()}
        return {self.sha256: self.size_bytes} | patches


def target_of(sha256: str, size_bytes: int, hashes: Mapping[str, str], custom: object) -> Target:
    """What metadata says of the target of that name.

    Raises:
        InvalidInputError: it has another digest than its name says, or its note is none of a bundle.
    """
    try:
        note = msgspec.convert(custom, SignedNote)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"bundle {sha256}: {error}") from error
    if hashes != {"sha256": sha256}:
        raise InvalidInputError(f"bundle {sha256}: is signed under another digest")
    return Target(sha256, size_bytes, note)
