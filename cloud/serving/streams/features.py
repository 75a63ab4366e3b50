"""One stream of features: the symbols that later ones may be coded against."""

import threading

from spillover.cloud.models.tails import TailAdapter
from spillover.cloud.serving.streams.losses import Loss, LostError
from spillover.common.coding import StreamPosition
from spillover.common.errors import InvalidInputError
from spillover.common.features.quantized import Quantized

NEWEST, REFERENCES = 6, 2
"""Of how many payloads symbols are kept.

The newest ones are those that an edge may still have in flight, so any of them may become the reference. Two
references are kept, so that payloads which others have overtaken are still answered.
"""


class FeatureStream:
    """Decodes the payloads of one stream. Thread-safe; only its symbols are guarded, decoding is not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._symbols: dict[int, Quantized] = {}
        self._references: list[int] = []

    @staticmethod
    def bytes_of(tail: TailAdapter) -> int:
        """What a stream of features of this cut takes at most."""
        return (NEWEST + REFERENCES) * tail.symbol_bytes

    def decode(self, data: bytes, position: StreamPosition, tail: TailAdapter) -> Quantized:
        """The symbols of a payload, which have the digest that its sender says.

        Raises:
            ReferenceLostError: they cannot be had from what is here. After a wrong digest nothing is here.
            InvalidInputError: a key is damaged, or of another cut.
        """
        with self._lock:
            reference, known = self._symbols.get(position.reference), self._symbols.get(position.number)
        if reference is None and not position.is_key:
            if known is not None and known.digest() == position.digest:
                return known  # a repeated call that was overtaken
            raise LostError(Loss.GAP, f"number {position.reference} of the stream is not held here")
        quantized = self._decoded(data, reference, position, tail)
        if quantized.digest() != position.digest:
            self._clear()
            raise LostError(Loss.DIGEST, f"number {position.number} of the stream is not what its sender has")
        with self._lock:
            self._keep(position, quantized)
        return quantized

    def _decoded(
        self, data: bytes, reference: Quantized | None, position: StreamPosition, tail: TailAdapter
    ) -> Quantized:
        try:
            return tail.symbols(data, reference)
        except InvalidInputError as error:
            if position.is_key:
                raise
            self._clear()
            raise LostError(Loss.CODEC, f"number {position.number} of the stream: {error}") from error

    def _clear(self) -> None:
        with self._lock:
            self._symbols.clear()
            self._references.clear()

    def _keep(self, position: StreamPosition, quantized: Quantized) -> None:
        self._symbols[position.number] = quantized
        if position.reference and position.reference not in self._references:
            self._references = sorted([*self._references, position.reference])[-REFERENCES:]
        kept = {*sorted(self._symbols)[-NEWEST:], *self._references}
        for number in self._symbols.keys() - kept:
            del self._symbols[number]
