"""A wall clock that jumps while a process runs: libfaketime (Debian: `apt-get install faketime`).

The monotonic clock stays true, as it does when a clock is set.
"""

from pathlib import Path

from tests.chaos.disk import CannotHappenHereError

_LIBRARY = "libfaketimeMT.so.1"
_PLACES = ("/usr/lib", "/usr/local/lib")


class JumpingClock:
    """Moves the wall clock of processes that are started with `environment`; `folder` holds its state.

    Raises:
        CannotHappenHereError: the library is not installed.
    """

    def __init__(self, folder: Path) -> None:
        found = [path for place in _PLACES for path in Path(place).glob(f"**/faketime/{_LIBRARY}")]
        if not found:
            raise CannotHappenHereError("libfaketime is not installed (Debian: apt-get install faketime)")
        self._offset = folder / "clock"
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }

    def jump(self, offset_s: int) -> None:
        """From now on the wall clock is `offset_s` seconds ahead of the true one; negative is behind."""
        fresh = self._offset.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}\n")
        fresh.replace(self._offset)  # never half written to one who reads
