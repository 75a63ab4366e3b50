"""Inter coding: where a payload stands in its stream, and what it is coded against.

A *stream* is what one camera sends in one coding, from its first key on. Its payloads are numbered. Each is
coded against one that the server has acknowledged, its *reference*, or against none: then it is a *key*.
Edge and server both digest what they have after decoding. Two that differ have not the same picture, so an
answer is never made from one that has drifted.
"""

from dataclasses import dataclass

from google_crc32c import extend

from spillover.common.errors import InvalidInputError

STREAM_ID_BYTES = 8
"""Drawn at random by the edge. Who does not know it cannot meddle with the stream."""
MOST_NUMBER = 2**32 - 1


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Where one payload stands in its stream, and what its receiver must have after decoding it.

    Raises:
        InvalidInputError: the numbers are no position of a stream.
    """

    stream_id: bytes
    number: int
    """Counted from 1."""
    reference: int
    """Number of the payload that this one is coded against; 0: none, it is a key."""
    digest: int
    """CRC32C of what was decoded: the planes Y, U and V of a picture, or the symbols of features."""

    def __post_init__(self) -> None:
        if len(self.stream_id) != STREAM_ID_BYTES:
            raise InvalidInputError(
                f"a stream is named by {STREAM_ID_BYTES} bytes, not {len(self.stream_id)}"
            )
        if not 1 <= self.number <= MOST_NUMBER or not 0 <= self.digest < 2**32:
            raise InvalidInputError(
                f"number {self.number} or digest {self.digest} of a stream is out of range"
            )
        if not 0 <= self.reference < self.number:
            raise InvalidInputError(
                f"number {self.number} of a stream cannot be coded against {self.reference}"
            )

    @property
    def is_key(self) -> bool:
        """Whether it needs nothing that was sent before."""
        return not self.reference


def digest_of(*parts: bytes | memoryview) -> int:
    """CRC32C over `parts` one after the other."""
    digest = 0
    for part in parts:
        digest = extend(digest, bytes(part))
    return digest
