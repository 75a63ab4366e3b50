"""JPEGs (ITU-T T.81) that somebody has tampered with; all begin from a good baseline picture."""

import struct
from collections.abc import Iterator

_SOF0, _SOS = 0xC0, 0xDA


def claiming(jpeg: bytes, width: int, height: int) -> bytes:
    """The picture with other dimensions in its frame header."""
    at = _marker_at(jpeg, _SOF0)
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def smuggled(jpeg: bytes) -> Iterator[bytes]:
    """Pictures whose first frame header says 8 x 8, and another 20 000 x 20 000."""
    large = claiming(jpeg, 20_000, 20_000)
    small_header = _frame_header(claiming(jpeg, 8, 8))
    at = _marker_at(jpeg, _SOF0)
    yield large[:at] + small_header + large[at:]
    yield large[:2] + small_header + large[2:]
    yield large[:2] + _segment(0xFE, small_header)[:4] + large[2:]
    # The length of a segment leads one reader to one header, and the other past it.
    yield large[:2] + b"\xff\xff" + small_header + large[2:]
    yield large[:2] + b"\xff\x01" + small_header + large[2:]
    yield large[:2] + b"\xff\xd8" + small_header + large[2:]


def broken(jpeg: bytes) -> Iterator[bytes]:
    """Cut short, with a marker too many or too few, or of a process that is not served."""
    for share in (0.05, 0.3, 0.6, 0.9):
        yield jpeg[: int(len(jpeg) * share)]
    yield jpeg[:-2]
    at, scan = _marker_at(jpeg, _SOF0), _marker_at(jpeg, _SOS)
    header = _frame_header(jpeg)
    yield jpeg[:at] + header + jpeg[at:]
    yield jpeg[:at] + jpeg[at + len(header) :]
    for marker in (0xC1, 0xC3, 0xC5, 0xC9, 0xCB, 0xCF, 0xF7):  # lossless, arithmetic, JPEG-LS, ...
        yield jpeg[: at + 1] + bytes([marker]) + jpeg[at + 2 :]
    for bits in (0, 1, 12, 16, 255):
        yield jpeg[: at + 4] + bytes([bits]) + jpeg[at + 5 :]
    for components in (0, 2, 5, 255):
        yield jpeg[: at + 9] + bytes([components]) + jpeg[at + 10 :]
    for sampling in (0x00, 0xFF, 0x41):
        yield jpeg[: at + 11] + bytes([sampling]) + jpeg[at + 12 :]
    yield jpeg[:scan] + jpeg[scan + 2 :]
    yield jpeg[:scan] + _segment(0xDC, struct.pack(">H", 60_000)) + jpeg[scan:]  # DNL: the number of lines
    yield claiming(jpeg, 64, 0)[:-2] + _segment(0xDC, struct.pack(">H", 60_000)) + jpeg[-2:]
    yield jpeg[:scan] + _segment(0xDD, struct.pack(">H", 1)) + jpeg[scan:]  # restarts that never come
    yield jpeg[:2] + b"\xff\xe1\x00\x00" + jpeg[2:]
    yield jpeg[:2] + b"\xff\xe1\xff\xff" + jpeg[2:]
    yield jpeg[:2] + jpeg
    yield jpeg + jpeg
    yield b"\xff\xd8\xff\xd9"
    yield b"\xff\xd8" * 1000
    yield jpeg[:scan] + b"\xff\xd9"


def with_exif(jpeg: bytes) -> Iterator[bytes]:
    """The picture with an EXIF block of its own: orientations, and directories that cannot be."""
    for orientation in (0, 1, 5, 8, 9, 255, 65535):
        yield _with_tiff(jpeg, _directory([(0x0112, 3, 1, orientation)]))
    for offset in (0, 7, 9, 65_000, 0x7FFFFFFF, 0xFFFFFFFF):
        yield _with_tiff(jpeg, b"", offset)
    yield _with_tiff(jpeg, struct.pack("<H", 65_535) + bytes(60_000))
    yield _with_tiff(jpeg, _directory([(0x0112, 3, 0xFFFFFFFF, 0xFFFFFFFF)]))
    yield _with_tiff(jpeg, _directory([(0x0112, 250, 1, 6)]))
    yield _with_tiff(jpeg, _directory([(0x0112, 3, 1, 6)] * 4000))
    yield _with_tiff(jpeg, _directory([(0x0112, 3, 1, 6)], following=8))
    yield jpeg[:2] + _segment(0xE1, b"Exif\0\0") + jpeg[2:]
    yield jpeg[:2] + _segment(0xE1, b"Exif\0\0XX*\0") + jpeg[2:]


def _with_tiff(jpeg: bytes, directory: bytes, offset: int = 8) -> bytes:
    tiff = b"II*\0" + struct.pack("<I", offset) + directory
    return jpeg[:2] + _segment(0xE1, b"Exif\0\0" + tiff) + jpeg[2:]


def _directory(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + rows + struct.pack("<I", following)


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _frame_header(jpeg: bytes) -> bytes:
    at = _marker_at(jpeg, _SOF0)
    return jpeg[at : at + 2 + struct.unpack_from(">H", jpeg, at + 2)[0]]


def _marker_at(jpeg: bytes, marker: int) -> int:
    at = jpeg.index(bytes([0xFF, marker]))
    assert jpeg[at + 2] == 0, "a header is longer than expected"
    return at
