"""Memory of pictures is kept between frames."""

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource
import sys
import numpy as np
from spillover.common.allocator import keep_picture_memory
from spillover.common.images import decode_jpeg, encode_jpeg

def faults(frames):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(frames):
        decode_jpeg(data, 10**7)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / frames

if sys.argv[1] == "kept":
    assert keep_picture_memory()
data = encode_jpeg(np.zeros((720, 1280, 3), np.uint8), 80).data
faults(10)
print(faults(10))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")
@pytest.mark.parametrize(("what", "pages"), [("kept", (0, 10)), ("as it is", (600, 10_000))])
def test_a_frame_of_1280x720_faults_no_pages(what, pages):
    """Without the call each frame faults in its 675 pages, once or twice; with it, next to none."""
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS, what], capture_output=True, text=True, check=True, timeout=60
    )
    assert pages[0] <= float(done.stdout) <= pages[1]
