"""Several small symbols in one byte, so that a byte-wise Huffman code can use less than a bit per symbol.

A Huffman code uses at least one bit per symbol. The symbols that fit one byte (five of 0..2, or two of 0..15)
are read as digits of a number in base `levels` and become one symbol of the code, which then follows the
joint distribution of neighbours. On every network tried, deflate's Huffman code on such bytes came out below
the entropy of single symbols, and close to zstd's slowest level (docs/measurements/split.md).
"""

from functools import cache

import numpy as np

from spillover.common.features.quantizer import Symbols


def symbols_per_byte(levels: int) -> int:
    """How many symbols of 0..levels-1 fit one byte."""
    count = 1
    while levels ** (count + 1) <= 256:
        count += 1
    return count


def packed_size(count: int, levels: int) -> int:
    """Number of bytes for `count` symbols."""
    return -(-count // symbols_per_byte(levels))


def pack(symbols: Symbols, levels: int) -> bytes:
    """Symbols of any shape as bytes, in memory order; the last byte is padded with zeros."""
    per_byte = symbols_per_byte(levels)
    padded = np.zeros(packed_size(symbols.size, levels) * per_byte, np.uint8)
    padded[: symbols.size] = symbols.ravel()
    digits = padded.reshape(-1, per_byte)
    number = digits[:, 0].copy()
    for digit in range(1, per_byte):
        number *= np.uint8(levels)
        number += digits[:, digit]
    return number.tobytes()


def unpack(data: bytes, count: int, levels: int) -> Symbols | None:
    """The first `count` symbols in `data`; None if a byte is not a valid group of symbols."""
    numbers = np.frombuffer(data, np.uint8)
    if numbers.size and int(numbers.max()) >= levels ** symbols_per_byte(levels):
        return None
    return _digits(levels)[numbers].reshape(-1)[:count]


@cache
def _digits(levels: int) -> Symbols:
    """Row n holds the digits of n in base `levels`, most significant first."""
    per_byte = symbols_per_byte(levels)
    powers = levels ** np.arange(per_byte - 1, -1, -1)
    return (np.arange(256)[:, None] // powers % levels).astype(np.uint8)
