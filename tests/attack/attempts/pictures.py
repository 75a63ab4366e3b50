"""Pictures: other formats, broken, huge, and those that cost much more to decode than to send."""

import random
from functools import cache

import cv2
import numpy as np
from cv2.typing import MatLike

from tests.attack import jpegs
from tests.attack.messages import INFER, JPEG, LARGEST, frame
from tests.attack.suite import Scene, attempt
from tests.attack.world import Kind, Mode
from tests.support.slow_jpeg import slow_jpeg

SENDERS_FAULT = ("INVALID_ARGUMENT",)
EITHER = ("INVALID_ARGUMENT", "OK")
BUSY = ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED", "no status yet")


@attempt(Kind(), *SENDERS_FAULT)
def other_picture_formats(scene: Scene) -> None:
    """PNG, WebP, TIFF and whatever else OpenCV reads, also behind a JPEG's first bytes or before a JPEG."""
    picture = np.zeros((8, 8, 3), np.uint8)
    for ending in (".png", ".webp", ".tiff", ".bmp", ".jp2", ".ppm", ".sr", ".gif", ".avif"):
        try:
            made, data = cv2.imencode(ending, picture)
        except cv2.error:
            continue
        if made:
            body = data.tobytes()
            scene.all_of(INFER, [frame(body), frame(b"\xff\xd8" + body), frame(body + JPEG)])
    scene.all_of(
        INFER,
        [frame(data) for data in (b"", b"\0", b"GIF89a", b"#?RADIANCE\n", b"v/1\x01", b"%!PS", b"<svg/>")],
    )


@attempt(Kind(), *EITHER)
def broken_jpegs(scene: Scene) -> None:
    """Cut short, two frame headers, a small one that hides a large one, reserved markers, 12 bits, DNL."""
    scene.all_of(INFER, [frame(data) for data in jpegs.broken(JPEG)])
    rng = random.Random(1)
    for _ in range(scene.of(1000, 200)):
        data = bytearray(JPEG)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(2, len(data))] = rng.randrange(256)
        scene.saw(scene.call(INFER, frame(bytes(data))))


@attempt(Kind(), *SENDERS_FAULT)
def huge_dimensions(scene: Scene) -> None:
    """Headers of 65535 x 65535 pixels and the like, over a few bytes."""
    scene.all_of(
        INFER,
        [
            frame(jpegs.claiming(JPEG, *size))
            for size in ((65535, 65535), (65535, 800), (20000, 20000), (0, 0), (0, 1))
        ],
    )


@attempt(Kind(), *SENDERS_FAULT)
def hidden_dimensions(scene: Scene) -> None:
    """A frame header of 8 x 8 pixels, and one of 20 000 x 20 000 behind it or inside of a segment."""
    scene.all_of(INFER, [frame(data) for data in jpegs.smuggled(JPEG)])


@attempt(Kind(Mode.TOKEN), *SENDERS_FAULT, *BUSY)
def progressive_bombs(scene: Scene) -> None:
    """Progressive JPEGs of thousands of scans, each of which takes minutes to decode."""
    bombs = [frame(slow_jpeg(count)) for count in (8_000, 40_000)]
    connection = scene.connect()
    streams = [connection.call(INFER, bomb) for bomb in bombs * scene.of(8, 1)]
    scene.hold(scene.of(20, 2))
    scene.saw_all(streams)


@attempt(Kind(Mode.TOKEN), *EITHER, *BUSY)
def progressive_pictures_of_few_scans(scene: Scene) -> None:
    """Progressive JPEGs of as many scans as are allowed, by one device, as fast as they are answered."""
    picture = frame(slow_jpeg(90))
    scene.keep_calling(INFER, [(scene.connect(), picture)], 16, scene.of(20, 2))


@attempt(Kind(Mode.TOKEN), *EITHER, *BUSY, short=False)
def large_pictures(scene: Scene) -> None:
    """Honest pictures of 24 million pixels by one device, 32 under way; of 49 million, refused or decoded."""
    scene.keep_calling(INFER, [(scene.connect(), frame(_picture(6000, 4000)))], 32, scene.of(20, 2))
    scene.saw(scene.call(INFER, frame(_picture(7000, 7000)), limit_s=60))


@attempt(Kind(), *EITHER, *BUSY, shared=True)
def large_pictures_of_many_strangers(scene: Scene) -> None:
    """The same without a name, on 16 connections of as many addresses."""
    picture = frame(_picture(6000, 4000))
    connections = [scene.connect(source=f"127.0.3.{number + 1}") for number in range(16)]
    streams = [one.call(INFER, picture) for _ in range(scene.of(6, 2)) for one in connections]
    scene.pump(lambda: all(stream.status for stream in streams), scene.of(30, 3))
    scene.saw_all(streams)


@attempt(Kind(), *EITHER, *BUSY)
def segments_without_end(scene: Scene) -> None:
    """16 MB of empty comment segments, or of fill bytes, before a small picture."""
    for filler in (b"\xff\xfe\x00\x02", b"\xff", b"\xff\x01", b"\xff\xd0"):
        data = JPEG[:2] + filler * ((LARGEST - 4096) // len(filler)) + JPEG[2:]
        for _ in range(scene.of(3, 1)):
            scene.saw(scene.call(INFER, frame(data), limit_s=60), what=filler.hex())


@attempt(Kind(), *EITHER)
def exif_of_all_kinds(scene: Scene) -> None:
    """Orientations that do not exist, directories far away, of 65535 entries, or their own next."""
    scene.all_of(INFER, [frame(data) for data in jpegs.with_exif(JPEG)])


@attempt(Kind(), "OK")
def unusual_pictures(scene: Scene) -> None:
    """One pixel, one line of 60 000, grey, CMYK-like colours: pictures all the same."""
    for shape in ((1, 1, 3), (1, 60_000, 3), (60_000, 1, 3), (9, 9)):
        scene.saw(scene.call(INFER, frame(_encoded(np.full(shape, 7, np.uint8)))), what=str(shape))


@cache
def _picture(width: int, height: int) -> bytes:
    """An honest picture with something on it."""
    small = np.random.default_rng(0).integers(0, 255, (height // 100, width // 100, 3), np.uint8)
    return _encoded(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def _encoded(picture: MatLike) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
