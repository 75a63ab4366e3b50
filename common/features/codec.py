"""Feature tensors to bytes and back.

Clip and uniform quantisation to a few levels, then entropy coding, without training: R. A. Cohen, H. Choi and
I. V. Bajic, "Lightweight compression of neural network feature tensors for collaborative intelligence" (ICME
2020). Deflate (RFC 1951) over packed symbols replaces their CABAC: every Python has it, and its decoder's
output can be bounded.

Layout, little-endian, version 1, which needs nothing else:

    magic "SF" | version u8 | tensors u8 | crc32 u32 of everything that follows
    for each tensor: flags u8 | levels u8 | axes u8 | axis u16 ... | low f32 | high f32
                     | [1] low u8 x channels, high u8 x channels | [2] order u16 x channels
    one raw deflate stream: the packed symbols of all tensors in turn

Flags: 1 per-channel clip, 2 channels reordered, 4 each channel predicted from the one before it.

Version 2 is coded against symbols that both sides have:

    magic "SF" | version u8 | tensors u8 | crc32 u32 of everything that follows
    crc32 u32 of the reference's tensor headers, as version 1 has them | changes u32
    one raw deflate stream: the gaps between changes, then the packed changes (`changes`)
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from spillover.common.errors import InvalidInputError, TooLargeError
from spillover.common.features.changes import most_bytes, read_changes, write_changes
from spillover.common.features.packing import pack, packed_size, unpack
from spillover.common.features.quantized import (
    MAX_AXES,
    PER_CHANNEL,
    PREDICTED,
    REORDERED,
    Coding,
    Quantized,
    check_form,
    quantize_features,
)
from spillover.common.features.quantizer import Quantizer, Symbols, is_clip
from spillover.common.types import FloatArray

ALONE, AGAINST_REFERENCE = 1, 2
"""Versions of the format."""
MAX_TENSORS = 8
_MAGIC = b"SF"
_HEADER = struct.Struct("<2sBBI")
_CHANGES = struct.Struct("<II")
_STRATEGIES = (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)


def encode_features(tensors: Sequence[FloatArray], quantizers: Sequence[Quantizer]) -> bytes:
    """Encode float32 tensors (C, ...) without batch axis, with one quantiser per tensor.

    Raises:
        InvalidInputError: a value is not a number, or a tensor does not fit its quantiser or the format.
    """
    return encode_symbols(quantize_features(tensors, quantizers))


def encode_symbols(quantized: Quantized, reference: Quantized | None = None) -> bytes:
    """Encode symbols alone, or as changes to those of a reference of the same form.

    Raises:
        InvalidInputError: there are too many tensors for the format, or the reference is of another form.
    """
    count = len(quantized.codings)
    if not 1 <= count <= MAX_TENSORS:
        raise InvalidInputError(f"{count} tensors; 1..{MAX_TENSORS} fit")
    if reference is None:
        version, body = ALONE, quantized.form + _deflate(b"".join(_packed(quantized)))
    else:
        check_form(quantized, reference)
        changes, gaps, steps = write_changes(quantized, reference)
        start = _CHANGES.pack(zlib.crc32(reference.form), changes)
        version, body = AGAINST_REFERENCE, start + _deflate(gaps, steps)
    return _HEADER.pack(_MAGIC, version, count, zlib.crc32(body)) + body


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Features as they are sent, and the symbols that the receiver has of them.

    `alone` is what they are without a reference; it is `data` where none is needed.
    """

    data: bytes
    alone: bytes
    quantized: Quantized

    @property
    def needs_reference(self) -> bool:
        """Whether they are coded against the reference."""
        return self.data is not self.alone


def encode_next(
    tensors: Sequence[FloatArray],
    quantizers: Sequence[Quantizer],
    reference: Quantized | None,
    dead_zone: float,
) -> Coded:
    """Encode features against a reference; alone where there is none, or where that takes fewer bytes.

    Raises:
        InvalidInputError: as `quantize_features` and `encode_symbols`.
    """
    fresh = quantize_features(tensors, quantizers)
    alone = encode_symbols(fresh)
    if reference is not None:
        kept = quantize_features(tensors, quantizers, reference, dead_zone)
        data = encode_symbols(kept, reference)
        if len(data) < len(alone):
            return Coded(data, alone, kept)
    return Coded(alone, alone, fresh)


def decode_features(data: bytes, max_elements: int) -> list[FloatArray]:
    """The tensors in `data`. Memory is bounded by `max_elements`, whatever the sender claims.

    Raises:
        TooLargeError: the header claims more than `max_elements` elements in all.
        InvalidInputError: damaged, truncated, of another version, coded against others, or not features.
    """
    return decode_symbols(data, max_elements).tensors()


def decode_symbols(data: bytes, max_elements: int, reference: Quantized | None = None) -> Quantized:
    """The symbols in `data`, which may be changes to those of `reference`; memory is bounded as there.

    Raises:
        TooLargeError, InvalidInputError: as `decode_features`; or the reference is absent or of another
            form.
    """
    if len(data) < _HEADER.size:
        raise InvalidInputError(f"features are cut short: {len(data)} bytes")
    magic, version, count, crc = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise InvalidInputError(f"payload is not features: it begins with {magic.hex(' ')}")
    if version not in {ALONE, AGAINST_REFERENCE}:
        raise InvalidInputError(
            f"features have format version {version}; this side knows {ALONE} and {AGAINST_REFERENCE}"
        )
    body = memoryview(data)[_HEADER.size :]
    if zlib.crc32(body) != crc:
        raise InvalidInputError("features are damaged: the checksum differs")
    if version == ALONE:
        return _decode_alone(body, count, max_elements)
    if reference is None:
        raise InvalidInputError("features are coded against others, and none are named")
    return _decode_changes(body, count, max_elements, reference)


def _decode_alone(body: memoryview, count: int, max_elements: int) -> Quantized:
    codings, start = _read_codings(body, count)
    _check_elements(sum(coding.size for coding in codings), max_elements)
    size = sum(packed_size(coding.size, coding.levels) for coding in codings)
    plain = _inflate(body[start:], size)
    if len(plain) != size:
        raise InvalidInputError(f"features are damaged: the stream does not hold {size} bytes")
    return Quantized(tuple(codings), tuple(_unpacked(plain, codings)))


def _decode_changes(body: memoryview, count: int, max_elements: int, reference: Quantized) -> Quantized:
    _check_elements(reference.elements, max_elements)
    if len(body) < _CHANGES.size:
        raise InvalidInputError("features are damaged: they end in the header")
    form, changes = _CHANGES.unpack_from(body)
    if count != len(reference.codings) or form != zlib.crc32(reference.form):
        raise InvalidInputError("features are coded against others of other shapes, levels or clips")
    plain = _inflate(body[_CHANGES.size :], most_bytes(changes, reference.codings))
    return read_changes(plain, changes, reference)


def _check_elements(elements: int, max_elements: int) -> None:
    if elements > max_elements:
        raise TooLargeError(f"features have {elements} elements; the limit is {max_elements}")


def _packed(quantized: Quantized) -> Iterator[bytes]:
    for symbols, coding in zip(quantized.symbols, quantized.codings, strict=True):
        coded = symbols[np.asarray(coding.order)] if coding.order else symbols
        if coding.predict:
            difference = coded.astype(np.int16)
            difference[1:] -= coded[:-1]
            coded = (difference % coding.levels).astype(np.uint8)
        yield pack(coded, coding.levels)


def _unpacked(plain: bytes, codings: Sequence[Coding]) -> Iterator[Symbols]:
    start = 0
    for coding in codings:
        end = start + packed_size(coding.size, coding.levels)
        symbols = unpack(plain[start:end], coding.size, coding.levels)
        if symbols is None:
            raise InvalidInputError("features are damaged: a byte stands for no symbol")
        yield _restored(symbols.reshape(coding.shape), coding)
        start = end


def _restored(symbols: Symbols, coding: Coding) -> Symbols:
    """The symbols in the tensor's own order."""
    if coding.predict:
        symbols = (np.cumsum(symbols, axis=0, dtype=np.int64) % coding.levels).astype(np.uint8)
    if coding.order:
        restored = np.empty_like(symbols)
        restored[np.asarray(coding.order)] = symbols
        symbols = restored
    return np.ascontiguousarray(symbols)


def _deflate(*sections: bytes) -> bytes:
    """The sections one after the other, each with a Huffman code of its own."""
    return min((_deflated(sections, strategy) for strategy in _STRATEGIES), key=len)


def _deflated(sections: Sequence[bytes], strategy: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    parts = []
    for number, section in enumerate(sections):
        if number:
            parts.append(compressor.flush(zlib.Z_BLOCK))
        parts.append(compressor.compress(section))
    return b"".join(parts) + compressor.flush()


def _inflate(stream: memoryview, most: int) -> bytes:
    """What the whole of a stream holds, at most `most` bytes."""
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # Allow one byte more than expected, to detect a stream that is too long.
        plain = decompressor.decompress(stream, most + 1)
    except zlib.error as error:
        raise InvalidInputError(f"features are damaged: {error}") from error
    if len(plain) > most or not decompressor.eof or decompressor.unused_data:
        raise InvalidInputError(f"features are damaged: the stream does not hold {most} bytes")
    return plain


def _read_codings(body: memoryview, count: int) -> tuple[list[Coding], int]:
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


def _read_coding(body: memoryview, start: int) -> tuple[Coding, int]:
    """One tensor's header, and the offset of the next one. Raises struct.error or ValueError."""
    flags, levels, axes = struct.unpack_from("<BBB", body, start)
    if flags >= 8 or levels < 2 or not 1 <= axes <= MAX_AXES:
        raise ValueError(f"flags {flags}, levels {levels}, axes {axes}")
    *shape, low, high = struct.unpack_from(f"<{axes}Hff", body, start + 3)
    start += 3 + 2 * axes + 8
    if 0 in shape or not is_clip(low, high):
        raise ValueError(f"shape {shape}, clip {low} to {high}")
    channels, order = None, ()
    if flags & PER_CHANNEL:
        # A copy: a view would keep the whole payload for as long as these symbols are a reference.
        both = np.frombuffer(body, np.uint8, 2 * shape[0], start).copy()
        channels = (both[: shape[0]], both[shape[0] :])
        start += 2 * shape[0]
    if flags & REORDERED:
        order = tuple(np.frombuffer(body, "<u2", shape[0], start).tolist())
        start += 2 * shape[0]
        if sorted(order) != list(range(shape[0])):
            raise ValueError("the order of channels is no permutation")
    return Coding(tuple(shape), levels, low, high, channels, order, bool(flags & PREDICTED)), start
