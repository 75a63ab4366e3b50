"""What the start alone needed is given back, and nothing that is still needed."""

import subprocess
import sys

import pytest

from spillover.edge.runtime.memory import unchanged_mappings

_SMAPS = """\
1000-3000 r--p 00000000 08:01 11 /lib/constants.so
Rss: 8 kB
Anonymous: 0 kB
3000-5000 r-xp 00002000 08:01 11 /lib/code with a space.so (deleted)
Anonymous:             0 kB
5000-6000 r--p 00004000 08:01 11 /lib/relocated.so
Anonymous:             4 kB
6000-7000 rw-p 00005000 08:01 11 /lib/data.so
Anonymous:             0 kB
7000-8000 r--s 00000000 08:01 12 /a/shared/file
Anonymous:             0 kB
8000-9000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
9000-a000 r--p 00000000 00:00 0
Anonymous:             0 kB
"""
_RELEASE = """
import numpy as np
from spillover.common.images import decode_jpeg, encode_jpeg
from spillover.edge.runtime.memory import release_memory_of_the_start

def files_kb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssFile"))

picture = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
before, first = files_kb(), encode_jpeg(picture, 90).data
release_memory_of_the_start()
left = files_kb()
assert encode_jpeg(picture, 90).data == first
assert decode_jpeg(first, 10**6).shape == picture.shape
print(left / before)
"""


def test_only_mappings_whose_pages_are_all_in_their_file_are_found() -> None:
    """A page that the loader changed is nowhere else, and what may be written can change at any time."""
    assert list(unchanged_mappings(_SMAPS.splitlines())) == [(0x1000, 0x3000), (0x3000, 0x5000)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_most_pages_of_libraries_are_unmapped_and_the_libraries_work_on() -> None:
    """Of the libraries' pages less than half stay; OpenCV gives the same bytes after as before."""
    done = subprocess.run(
        [sys.executable, "-c", _RELEASE], capture_output=True, text=True, check=True, timeout=60
    )
    assert float(done.stdout) < 0.5
