"""A stand-in for rpicam-vid: a program of that name which streams a real clip, and fails on command."""

import os
import stat
import sys
from pathlib import Path

import cv2
import numpy as np

_PROGRAM = """#!{python} -IS
import os, sys, time

faults, clip = {faults!r}, {clip!r}
options = dict(argument.lstrip("-").partition("=")[::2] for argument in sys.argv[1:])
with open(faults + ".called", "w") as called:
    called.write(" ".join(sys.argv[1:]))
with open(faults + ".pids", "a") as pids:
    pids.write(str(os.getpid()) + "\\n")
size = int(options["width"]) * int(options["height"]) * 3 // 2
assert options["codec"] == "yuv420" and options["output"] == "-"

def fault():
    return open(faults).read() if os.path.exists(faults) else ""

if fault() == "no camera":
    sys.exit("ERROR: *** no cameras available ***")
print("[0:01:02] INFO Camera camera_manager.cpp:326 libcamera v0.5.1", file=sys.stderr, flush=True)
with open(clip, "rb") as pictures:
    while True:
        if fault() == "dies":
            print("ERROR: Device timeout detected, attempting a restart!!!", file=sys.stderr)
            sys.exit(255)
        while fault() == "hangs":
            time.sleep(0.01)
        picture = pictures.read(size)
        if len(picture) < size:
            pictures.seek(0)
            continue
        os.write(1, picture)
        time.sleep(1 / float(options["framerate"]))
"""


class StandIn:
    """Puts a `rpicam-vid` into `folder`, which a test puts on PATH; it streams noise of `size`."""

    def __init__(self, folder: Path, size: tuple[int, int] = (64, 48)) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self._faults = folder / "fault"
        clip = folder / "clip.yuv"
        self.pictures = [_smooth(number, size) for number in range(10)]
        clip.write_bytes(b"".join(cv2.cvtColor(p, cv2.COLOR_BGR2YUV_I420).tobytes() for p in self.pictures))
        program = self.folder / "rpicam-vid"
        program.write_text(_PROGRAM.format(python=sys.executable, faults=str(self._faults), clip=str(clip)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    @property
    def path(self) -> str:
        """What PATH is to be."""
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    def fail(self, how: str) -> None:
        """From now on it `dies`, `hangs`, or finds `no camera`; empty: it works."""
        fresh = self._faults.with_suffix(".new")
        fresh.write_text(how)
        fresh.replace(self._faults)

    @property
    def arguments(self) -> list[str]:
        """Those of the last call."""
        return self._faults.with_suffix(".called").read_text().split()

    @property
    def process_ids(self) -> list[int]:
        """Every process that was started, in order."""
        path = self._faults.with_suffix(".pids")
        return [int(line) for line in path.read_text().split()] if path.exists() else []


def _smooth(number: int, size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A picture that keeps its pixels in YUV 4:2:0, nearly."""
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:] = (20 * number, 40, 200 - 10 * number)
    return picture
