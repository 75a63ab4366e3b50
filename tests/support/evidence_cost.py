"""`python -m tests.support.evidence_cost CLIP`: what pictures cost the ring, and a clip its process.

The ring's JPEG stands beside H.264, which would need its codec in the daemon. Processor time is that of one
thread; the peak is the largest resident memory of a process that makes a clip of 15 s.
"""

import argparse
import re
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from spillover.common.images import encode_jpeg
from spillover.common.types import Image
from spillover.common.video.h264 import Encoder
from spillover.edge.evidence.child import ClipEncoder, clip_encoder
from spillover.edge.evidence.clips import QUALITY

FPS, LENGTH_S = 10, 15
WIDTH, HEIGHT = 640, 480


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", help="a video file")
    pictures = _pictures(parser.parse_args().clip)
    cv2.setNumThreads(1)
    h264 = Encoder(WIDTH, HEIGHT, 28)
    _say("JPEG", pictures, lambda image: encode_jpeg(image, QUALITY).data)
    _say("H.264", pictures, partial(h264.encode, key=False))
    jpegs = [encode_jpeg(image, QUALITY).data for image in pictures]
    with clip_encoder() as encoder:
        for number, jpeg in enumerate(jpegs):
            encoder.feed(number / FPS, jpeg)
        peak = re.findall(r"^VmHWM:\s+(\d+) kB", _status(encoder), re.MULTILINE)[0]
        size = len(encoder.finish())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    sys.stdout.write(
        f"a clip of {LENGTH_S} s: {size / 1e6:.1f} MB, {used.ru_utime + used.ru_stime:.1f} s of a processor, "
        f"peak {int(peak) * 1024 / 1e6:.0f} MB\n"
    )


def _status(encoder: ClipEncoder) -> str:
    return Path(f"/proc/{encoder._process.pid}/status").read_text(encoding="ascii")


def _pictures(path: str) -> list[Image]:
    source, found = cv2.VideoCapture(path), list[Image]()
    while len(found) < FPS * LENGTH_S:
        done, image = source.read()
        if not done:
            raise SystemExit(f"{path} has fewer than {FPS * LENGTH_S} pictures")
        found.append(cv2.resize(image, (WIDTH, HEIGHT)).astype(np.uint8))
    return found


def _say(name: str, pictures: list[Image], encode: Callable[[Image], bytes]) -> None:
    began_s = time.process_time()
    size = sum(len(encode(image)) for image in pictures) / len(pictures)
    each_s = (time.process_time() - began_s) / len(pictures)
    sys.stdout.write(f"{name:6} {each_s * 1e3:.1f} ms, {size / 1e3:.1f} kB a picture of {WIDTH}x{HEIGHT}\n")


if __name__ == "__main__":
    main()
