"""What a packet of H.264 may hold, checked before the codec sees it: that bounds what the codec takes.

FFmpeg keeps up to 32 sequence and 256 picture parameter sets of a stream, and as many pictures as the former
ask for. Measured, 256 of the latter take 45 MB, and fit into 11 kB. A stream needs one of each, and one
picture. Syntax: ITU-T H.264, 7.3.1 and 7.3.2.1.
"""

from collections.abc import Iterator

from spillover.common.errors import InvalidInputError

MACROBLOCK = 16
MOST_UNITS = 64
"""NAL units in one packet; a picture may have several slices."""
MOST_REFERENCES = 1
"""Pictures that the decoder keeps to predict from."""
_SLICE, _IDR, _SEI, _SPS, _PPS, _DELIMITER = 1, 5, 6, 7, 8, 9
_START = b"\x00\x00\x01"
_PLAIN, _DETAILED = {66, 77}, {100, 244}
"""`profile_idc` of the profiles that have 8 bits and 4:2:0, and of those that say what they have."""
_MOST_ZEROS = 31
"""Of an Exp-Golomb code."""


def most_packet_bytes(width: int, height: int) -> int:
    """The longest packet of one picture: 400 bytes a macroblock is H.264's own limit (annex A.3.1)."""
    return 4096 + 512 * macroblocks(width, height)


def macroblocks(width: int, height: int) -> int:
    """Of 16 by 16 pixels, in a picture of these sides."""
    return -(-width // MACROBLOCK) * -(-height // MACROBLOCK)


def check_packet(packet: bytes, width: int, height: int, *, key: bool) -> None:
    """Refuse a packet that is not one picture of these sides as the stream may have it.

    A key has an IDR picture and one parameter set of each kind; what follows it has none.

    Raises:
        InvalidInputError: it is something else.
    """
    if len(packet) > (most := most_packet_bytes(width, height)):
        raise InvalidInputError(f"a packet of H.264 has {len(packet)} bytes; the limit is {most}")
    kinds = []
    for unit in _units(packet):
        kind = unit[0] & 0x1F if unit else 0
        kinds.append(kind)
        if kind == _SPS:
            _check_sequence(_Bits(unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")), width, height)
    slices, needed = (_IDR, [_SPS, _PPS]) if key else (_SLICE, [])
    rest = sorted(kind for kind in kinds if kind not in {_SEI, _DELIMITER, slices})
    if slices not in kinds or rest != needed:
        what = "key" if key else "packet"
        raise InvalidInputError(f"a {what} of H.264 has NAL units of types {kinds}")


def _units(packet: bytes) -> Iterator[bytes]:
    """The NAL units of a packet, without their start codes."""
    start = packet.find(_START)
    if packet[: max(start, 0)].strip(b"\x00") or start < 0:
        raise InvalidInputError("a packet of H.264 does not begin with a start code")
    for _ in range(MOST_UNITS):
        end = packet.find(_START, start + len(_START))
        yield packet[start + len(_START) : end if end >= 0 else len(packet)]
        if end < 0:
            return
        start = end
    raise InvalidInputError(f"a packet of H.264 has more than {MOST_UNITS} NAL units")


def _check_sequence(bits: "_Bits", width: int, height: int) -> None:
    """Refuse a sequence parameter set (7.3.2.1.1) of other pictures, or with more references."""
    profile = bits.take(8)
    bits.take(16)
    bits.ue()
    if profile in _DETAILED:
        chroma, luma_depth, chroma_depth = bits.ue(), bits.ue(), bits.ue()
        bits.take(1)
        if (chroma, luma_depth, chroma_depth, bits.take(1)) != (1, 0, 0, 0):
            raise InvalidInputError("H.264 is not 4:2:0 of 8 bits without scaling matrices")
    elif profile not in _PLAIN:
        raise InvalidInputError(f"H.264 has profile {profile}, not one of {sorted(_PLAIN | _DETAILED)}")
    bits.ue()
    _skip_order_count(bits)
    references = bits.ue()
    bits.take(1)
    columns, rows = bits.ue() + 1, bits.ue() + 1
    if not bits.take(1):
        raise InvalidInputError("H.264 is interlaced")
    if references > MOST_REFERENCES:
        raise InvalidInputError(f"H.264 has {references} reference pictures; {MOST_REFERENCES} is kept")
    if (columns, rows) != (macroblocks(width, 1), macroblocks(1, height)):
        raise InvalidInputError(
            f"H.264 has {columns} x {rows} macroblocks, not those of {width} x {height} pixels as was said"
        )


def _skip_order_count(bits: "_Bits") -> None:
    match bits.ue():
        case 0:
            bits.ue()
        case 1:
            bits.take(1)
            bits.ue()
            bits.ue()
            for _ in range(min(bits.ue(), 255)):
                bits.ue()
        case _:
            pass


class _Bits:
    """Bits from the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data[:1024], "big")
        self._left = 8 * min(len(data), 1024)

    def take(self, count: int) -> int:
        """An unsigned number of so many bits. Raises InvalidInputError at the end."""
        if count > self._left:
            raise InvalidInputError("a sequence parameter set of H.264 is cut short")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def ue(self) -> int:
        """An Exp-Golomb code (9.1); of a signed one, what it is mapped from."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > _MOST_ZEROS:
                raise InvalidInputError("a sequence parameter set of H.264 is damaged")
        return (1 << zeros) - 1 + self.take(zeros)
