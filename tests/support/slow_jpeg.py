"""A small JPEG that is slow to decode: progressive, with any number of scans that all say "nothing"."""

import struct

SIDE = 4992
"""Pixels a side: just below the server's limit of 25 million."""
_BLOCKS = (SIDE // 8) ** 2
_LONGEST_RUN = 0x7FFF


def slow_jpeg(scans: int) -> bytes:
    """Grey, `SIDE` pixels square. Each scan is some 70 bytes, and visits each of 389 thousand blocks."""
    return b"".join(
        [
            b"\xff\xd8",
            _segment(0xDB, bytes([0]) + bytes([1] * 64)),
            _segment(0xC2, struct.pack(">BHHBBBB", 8, SIDE, SIDE, 1, 1, 0x11, 0)),
            _table(0x00, 0x00),  # DC: code 0 is "no difference"
            _table(0x10, 0xE0),  # AC: code 0 is "a run of at least 2 ** 14 blocks with nothing in them"
            _scan(0, _packed([(0, 1)] * _BLOCKS)),
            _scan(1, _packed(_runs(_BLOCKS))) * scans,
            b"\xff\xd9",
        ]
    )


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _table(kind: int, symbol: int) -> bytes:
    """A Huffman table of one symbol, whose code is a single 0."""
    return _segment(0xC4, bytes([kind, 1, *[0] * 15, symbol]))


def _scan(coefficient: int, data: bytes) -> bytes:
    header = bytes([1, 1, 0x00, coefficient, coefficient, 0x00])
    return _segment(0xDA, header) + data


def _runs(blocks: int) -> list[tuple[int, int]]:
    """Codes (value, bits) of runs that cover so many blocks: a 0, then the length less 2 ** 14 in 14 bits."""
    count = -(-blocks // _LONGEST_RUN)
    lengths = [blocks // count + (number < blocks % count) for number in range(count)]
    return [(length - (1 << 14), 15) for length in lengths]


def _packed(codes: list[tuple[int, int]]) -> bytes:
    """Bits to bytes, filled up with ones; a 0 follows each 255."""
    bits = "".join(f"{value:0{length}b}" for value, length in codes)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
