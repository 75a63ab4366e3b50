"""Feature tensors to bytes and back.

Clip and uniform quantisation to a few levels, then entropy coding, without training: R. A. Cohen, H. Choi and
I. V. Bajic, "Lightweight compression of neural network feature tensors for collaborative intelligence" (ICME
2020). Deflate (RFC 1951) over packed symbols replaces their CABAC: every Python has it, and its decoder's
output can be bounded.

Layout, little-endian, version 1:

    magic "SF" | version u8 | tensors u8 | crc32 u32 of everything that follows
    for each tensor: flags u8 | levels u8 | axes u8 | axis u16 ... | low f32 | high f32
                     | [1] low u8 x channels, high u8 x channels | [2] order u16 x channels
    one raw deflate stream: the packed symbols of all tensors in turn

Flags: 1 per-channel clip, 2 channels reordered, 4 each channel predicted from the one before it.
"""

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spillover.common.errors import InvalidInputError, TooLargeError
from spillover.common.features.packing import pack, packed_size, unpack
from spillover.common.features.quantizer import (
    Quantizer,
    Symbols,
    channel_bytes,
    dequantize,
    is_clip,
    quantize,
    scale_of,
)
from spillover.common.types import FloatArray

VERSION = 1
MAX_TENSORS = 8
MAX_AXES = 4
_MAGIC = b"SF"
_HEADER = struct.Struct("<2sBBI")
_PER_CHANNEL, _REORDERED, _PREDICTED = 1, 2, 4
_STRATEGIES = (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)


@dataclass(frozen=True, slots=True)
class _Coding:
    """One tensor's part of the header: how its symbols were made."""

    shape: tuple[int, ...]
    levels: int
    low: float
    high: float
    channels: tuple[Symbols, Symbols] | None = None
    order: tuple[int, ...] = ()
    predict: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def scale(self) -> tuple[FloatArray, FloatArray]:
        return scale_of(self.low, self.high, self.levels, self.channels)


def encode_features(tensors: Sequence[FloatArray], quantizers: Sequence[Quantizer]) -> bytes:
    """Encode float32 tensors (C, ...) without batch axis, with one quantiser per tensor.

    Raises:
        InvalidInputError: a value is not a number, or a tensor does not fit its quantiser or the format.
    """
    if len(tensors) != len(quantizers) or not 1 <= len(tensors) <= MAX_TENSORS:
        raise InvalidInputError(
            f"{len(tensors)} tensors and {len(quantizers)} quantisers; 1..{MAX_TENSORS} fit"
        )
    codings = [_coding(tensor, q) for tensor, q in zip(tensors, quantizers, strict=True)]
    body = b"".join(_pack_coding(coding) for coding in codings)
    plain = b"".join(
        pack(_symbols(tensor, coding), coding.levels) for tensor, coding in zip(tensors, codings, strict=True)
    )
    body += min((_deflate(plain, strategy) for strategy in _STRATEGIES), key=len)
    return _HEADER.pack(_MAGIC, VERSION, len(tensors), zlib.crc32(body)) + body


def decode_features(data: bytes, max_elements: int) -> list[FloatArray]:
    """The tensors in `data`. Memory is bounded by `max_elements`, whatever the sender claims.

    Raises:
        TooLargeError: the header claims more than `max_elements` elements in all.
        InvalidInputError: damaged, truncated, of another version, or not features.
    """
    if len(data) < _HEADER.size:
        raise InvalidInputError(f"features are cut short: {len(data)} bytes")
    magic, version, count, crc = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise InvalidInputError(f"payload is not features: it begins with {magic.hex(' ')}")
    if version != VERSION:
        raise InvalidInputError(f"features have format version {version}; this side knows {VERSION}")
    body = memoryview(data)[_HEADER.size :]
    if zlib.crc32(body) != crc:
        raise InvalidInputError("features are damaged: the checksum differs")
    codings, start = _read_codings(body, count)
    if (elements := sum(coding.size for coding in codings)) > max_elements:
        raise TooLargeError(f"features have {elements} elements; the limit is {max_elements}")
    plain = _inflate(body[start:], sum(packed_size(c.size, c.levels) for c in codings))
    return _tensors(plain, codings)


def _coding(tensor: FloatArray, q: Quantizer) -> _Coding:
    if not 1 <= tensor.ndim <= MAX_AXES or not all(1 <= axis < 1 << 16 for axis in tensor.shape):
        raise InvalidInputError(f"a feature tensor of shape {tensor.shape} does not fit the format")
    if any(named and len(named) != tensor.shape[0] for named in (q.channel_low, q.order)):
        raise InvalidInputError(f"the quantiser is for another number of channels than {tensor.shape[0]}")
    if not np.isfinite(tensor).all():
        raise InvalidInputError("a feature is not a number")
    # The clip rounded to the wire's float32, so that both sides compute with the same numbers.
    low, high = float(np.float32(q.low)), float(np.float32(q.high))
    channels = channel_bytes(q) if q.channel_low else None
    return _Coding(tensor.shape, q.levels, low, high, channels, q.order, q.predict)


def _symbols(tensor: FloatArray, coding: _Coding) -> Symbols:
    clipped = np.clip(tensor, np.float32(coding.low), np.float32(coding.high))
    symbols = quantize(clipped, *coding.scale(), coding.levels)
    if coding.order:
        symbols = symbols[np.asarray(coding.order)]
    if coding.predict:
        difference = symbols.astype(np.int16)
        difference[1:] -= symbols[:-1]
        symbols = (difference % coding.levels).astype(np.uint8)
    return symbols


def _deflate(plain: bytes, strategy: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return compressor.compress(plain) + compressor.flush()


def _inflate(stream: memoryview, size: int) -> bytes:
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # Allow one byte more than expected, to detect a stream that is too long.
        plain = decompressor.decompress(stream, size + 1)
    except zlib.error as error:
        raise InvalidInputError(f"features are damaged: {error}") from error
    if len(plain) != size or not decompressor.eof or decompressor.unused_data:
        raise InvalidInputError(f"features are damaged: the stream does not hold {size} bytes")
    return plain


def _tensors(plain: bytes, codings: Sequence[_Coding]) -> list[FloatArray]:
    tensors, start = [], 0
    for coding in codings:
        end = start + packed_size(coding.size, coding.levels)
        symbols = unpack(plain[start:end], coding.size, coding.levels)
        if symbols is None:
            raise InvalidInputError("features are damaged: a byte stands for no symbol")
        tensors.append(_values(symbols.reshape(coding.shape), coding))
        start = end
    return tensors


def _values(symbols: Symbols, coding: _Coding) -> FloatArray:
    if coding.predict:
        symbols = (np.cumsum(symbols, axis=0, dtype=np.int64) % coding.levels).astype(np.uint8)
    if coding.order:
        restored = np.empty_like(symbols)
        restored[np.asarray(coding.order)] = symbols
        symbols = restored
    return dequantize(symbols, *coding.scale())


def _pack_coding(coding: _Coding) -> bytes:
    flags = (
        (_PER_CHANNEL if coding.channels else 0)
        | (_REORDERED if coding.order else 0)
        | (_PREDICTED if coding.predict else 0)
    )
    axes = len(coding.shape)
    parts = [
        struct.pack(f"<BBB{axes}Hff", flags, coding.levels, axes, *coding.shape, coding.low, coding.high)
    ]
    if coding.channels:
        parts += [part.tobytes() for part in coding.channels]
    if coding.order:
        parts.append(np.asarray(coding.order, "<u2").tobytes())
    return b"".join(parts)


def _read_codings(body: memoryview, count: int) -> tuple[list[_Coding], int]:
    if not 1 <= count <= MAX_TENSORS:
        raise InvalidInputError(f"features claim {count} tensors; 1..{MAX_TENSORS} fit")
    codings, start = [], 0
    try:
        for _ in range(count):
            coding, start = _read_coding(body, start)
            codings.append(coding)
    except (struct.error, ValueError) as error:
        raise InvalidInputError(f"features are damaged: bad header: {error}") from error
    return codings, start


def _read_coding(body: memoryview, start: int) -> tuple[_Coding, int]:
    """One tensor's header, and the offset of the next one. Raises struct.error or ValueError."""
    flags, levels, axes = struct.unpack_from("<BBB", body, start)
    if flags >= 8 or levels < 2 or not 1 <= axes <= MAX_AXES:
        raise ValueError(f"flags {flags}, levels {levels}, axes {axes}")
    *shape, low, high = struct.unpack_from(f"<{axes}Hff", body, start + 3)
    start += 3 + 2 * axes + 8
    if 0 in shape or not is_clip(low, high):
        raise ValueError(f"shape {shape}, clip {low} to {high}")
    channels, order = None, ()
    if flags & _PER_CHANNEL:
        both = np.frombuffer(body, np.uint8, 2 * shape[0], start)
        channels = (both[: shape[0]], both[shape[0] :])
        start += 2 * shape[0]
    if flags & _REORDERED:
        order = tuple(np.frombuffer(body, "<u2", shape[0], start).tolist())
        start += 2 * shape[0]
        if sorted(order) != list(range(shape[0])):
            raise ValueError("the order of channels is no permutation")
    return _Coding(tuple(shape), levels, low, high, channels, order, bool(flags & _PREDICTED)), start
