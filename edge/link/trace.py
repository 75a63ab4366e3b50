"""Records the link during a run as a CSV file, which `spillover lab replay --link` replays.

Columns: `at_s` since the first call, `rate_bytes_per_s` (0 while calls time out or cannot connect), `rtt_s`.
A row holds until the next one; the last row marks the end of the recording.
"""

import csv
import threading
from collections.abc import Callable
from pathlib import Path

from spillover.common.errors import ConfigError

COLUMNS = ("at_s", "rate_bytes_per_s", "rtt_s")
STEP_S = 0.5
"""Minimum interval between rows, in seconds; of the calls in between only the last is written."""


class LinkRecorder:
    """Writes one row per call, at most one per `STEP_S`. Thread-safe.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        try:
            self._file = path.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"--record-link {path}: cannot be written: {error.strerror or error}"
            ) from error
        self._clock = clock
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)
        self._lock = threading.Lock()
        self._began_s: float | None = None
        self._written_s = 0.0
        self._last: tuple[float, float] | None = None

    def note(self, rate_bytes_per_s: float, rtt_s: float) -> None:
        """Add the sample of a call that has ended."""
        with self._lock:
            if self._file.closed:
                return
            now_s = self._clock()
            if self._began_s is None:
                self._began_s = now_s
                self._write(0.0, rate_bytes_per_s, rtt_s)
            self._last = rate_bytes_per_s, rtt_s
            if now_s - self._began_s - self._written_s >= STEP_S:
                self._write(now_s - self._began_s, *self._last)

    def close(self) -> None:
        """Write the row that marks the end of the recording, and close the file."""
        with self._lock:
            if self._began_s is not None and self._last is not None:
                ends_s = max(self._clock() - self._began_s, self._written_s + STEP_S)
                self._write(ends_s, *self._last)
            self._file.close()

    def _write(self, at_s: float, rate_bytes_per_s: float, rtt_s: float) -> None:
        self._writer.writerow([round(at_s, 4), round(rate_bytes_per_s, 1), round(rtt_s, 5)])
        self._file.flush()
        self._written_s = round(at_s, 4)
