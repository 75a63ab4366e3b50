"""Features rounded to a few levels: what both sides of a stream hold, and what is coded as bytes."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spillover.common.coding import digest_of
from spillover.common.errors import InvalidInputError
from spillover.common.features.quantizer import (
    Quantizer,
    Symbols,
    channel_bytes,
    dequantize,
    quantize,
    scale_of,
    scaled,
)
from spillover.common.types import FloatArray

MAX_AXES = 4
PER_CHANNEL, REORDERED, PREDICTED = 1, 2, 4


@dataclass(frozen=True, slots=True, eq=False)
class Coding:
    """How one tensor's symbols stand for values, and in which order they are coded."""

    shape: tuple[int, ...]
    levels: int
    low: float
    high: float
    channels: tuple[Symbols, Symbols] | None = None
    order: tuple[int, ...] = ()
    predict: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def scale(self) -> tuple[FloatArray, FloatArray]:
        """Offset and step of the levels, as `scale_of` gives them."""
        return scale_of(self.low, self.high, self.levels, self.channels)

    def packed(self) -> bytes:
        """The header of this tensor, as the format has it."""
        flags = (
            (PER_CHANNEL if self.channels else 0)
            | (REORDERED if self.order else 0)
            | (PREDICTED if self.predict else 0)
        )
        axes = len(self.shape)
        parts = [struct.pack(f"<BBB{axes}Hff", flags, self.levels, axes, *self.shape, self.low, self.high)]
        if self.channels:
            parts += [part.tobytes() for part in self.channels]
        if self.order:
            parts.append(np.asarray(self.order, "<u2").tobytes())
        return b"".join(parts)


@dataclass(frozen=True, eq=False)
class Quantized:
    """The symbols of all tensors of a cut for one frame.

    `symbols` has one contiguous uint8 array a tensor, in the tensor's shape and order of channels; each
    symbol is below its coding's levels.
    """

    codings: tuple[Coding, ...]
    symbols: tuple[Symbols, ...]

    @cached_property
    def form(self) -> bytes:
        """Shapes, levels and clips: two of the same form can be coded one against the other."""
        return b"".join(coding.packed() for coding in self.codings)

    @property
    def elements(self) -> int:
        """Elements of all tensors, and so the bytes that the symbols take."""
        return sum(coding.size for coding in self.codings)

    def digest(self) -> int:
        """CRC32C of all symbols, a byte each, tensor by tensor."""
        return digest_of(*(symbols.data.cast("B") for symbols in self.symbols))

    def tensors(self) -> list[FloatArray]:
        """The values, float32, without batch axis."""
        pairs = zip(self.symbols, self.codings, strict=True)
        return [dequantize(symbols, *coding.scale()) for symbols, coding in pairs]


def quantize_features(
    tensors: Sequence[FloatArray],
    quantizers: Sequence[Quantizer],
    reference: Quantized | None = None,
    dead_zone: float = 0.0,
) -> Quantized:
    """Round float32 tensors (C, ...) without batch axis to the levels of one quantiser each.

    With a `reference` of the same form a symbol stays what it is there unless the value has moved more than
    `dead_zone` steps from it: noise, and what has hardly changed, then costs nothing.

    Raises:
        InvalidInputError: a value is not a number, a tensor does not fit its quantiser or the format, or the
            reference is of another form.
    """
    if len(tensors) != len(quantizers):
        raise InvalidInputError(f"{len(tensors)} tensors and {len(quantizers)} quantisers")
    codings = tuple(_coding(tensor, q) for tensor, q in zip(tensors, quantizers, strict=True))
    symbols = tuple(_symbols(tensor, coding) for tensor, coding in zip(tensors, codings, strict=True))
    quantized = Quantized(codings, symbols)
    if reference is None:
        return quantized
    check_form(quantized, reference)
    kept = zip(tensors, codings, symbols, reference.symbols, strict=True)
    return Quantized(codings, tuple(_kept(*each, dead_zone) for each in kept))


def check_form(quantized: Quantized, reference: Quantized) -> None:
    """Raises InvalidInputError where the two are of different forms."""
    if quantized.form != reference.form:
        raise InvalidInputError("features and their reference have other shapes, levels or clips")


def _coding(tensor: FloatArray, q: Quantizer) -> Coding:
    if not 1 <= tensor.ndim <= MAX_AXES or not all(1 <= axis < 1 << 16 for axis in tensor.shape):
        raise InvalidInputError(f"a feature tensor of shape {tensor.shape} does not fit the format")
    if any(named and len(named) != tensor.shape[0] for named in (q.channel_low, q.order)):
        raise InvalidInputError(f"the quantiser is for another number of channels than {tensor.shape[0]}")
    if not np.isfinite(tensor).all():
        raise InvalidInputError("a feature is not a number")
    # The clip rounded to the wire's float32, so that both sides compute with the same numbers.
    low, high = float(np.float32(q.low)), float(np.float32(q.high))
    channels = channel_bytes(q) if q.channel_low else None
    return Coding(tensor.shape, q.levels, low, high, channels, q.order, q.predict)


def _clipped(tensor: FloatArray, coding: Coding) -> FloatArray:
    clipped: FloatArray = np.clip(tensor, np.float32(coding.low), np.float32(coding.high))
    return clipped


def _symbols(tensor: FloatArray, coding: Coding) -> Symbols:
    return np.ascontiguousarray(quantize(_clipped(tensor, coding), *coding.scale(), coding.levels))


def _kept(tensor: FloatArray, coding: Coding, fresh: Symbols, before: Symbols, dead_zone: float) -> Symbols:
    """`before` where the value is within the dead zone around it, else `fresh`."""
    position = np.clip(scaled(_clipped(tensor, coding), *coding.scale()), 0, coding.levels - 1)
    return np.where(np.abs(position - before) <= np.float32(dead_zone), before, fresh)
