"""Checks the clock: set at all, and kept by a time server. A wrong one breaks TLS and all dates."""

import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

from spillover.edge.doctor.case import Case
from spillover.edge.doctor.findings import Finding, failed, ok, warning

_TIMEX_BYTES = 512
"""More than a `struct timex` has anywhere."""
_TIME_ERROR = 5
"""What adjtimex(2) returns for a clock that nothing keeps."""
_TIMESYNCD = "run/systemd/timesync/synchronized"
"""systemd-timesyncd(8) makes this file once it has set the clock."""
_SLACK_S = 24 * 3600.0
_CURE = "connect to a time server (timedatectl set-ntp true), or add a battery-backed clock"


def check_clock(case: Case, now_unix_s: float | None = None) -> Iterator[Finding]:
    """The time against that of files that were written before, and whether something keeps it."""
    now_s = time.time() if now_unix_s is None else now_unix_s
    shown = f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(now_s))} UTC"
    later = [path for path in _written_before(case) if path.stat().st_mtime > now_s + _SLACK_S]
    if later:
        yield failed("clock", f"it says {shown}, and {later[0]} was written later than that", _CURE)
        return
    match is_kept(case.root):
        case True:
            yield ok("clock", f"{shown}, kept by a time server")
        case False:
            yield warning("clock", f"{shown}, and no time server keeps it", _CURE)
        case None:
            yield ok("clock", f"{shown}; this machine does not tell whether a time server keeps it")


def is_kept(root: Path) -> bool | None:
    """Whether a time server keeps the clock; None if the kernel does not say."""
    if (root / _TIMESYNCD).exists():
        return True
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjtimex is None:
        return None
    state = adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))  # all zeros: it only reads
    return None if state < 0 else state != _TIME_ERROR


def _written_before(case: Case) -> list[Path]:
    """Files that are older than this moment: the configuration and this program."""
    return [path for path in (case.config_path, Path(os.path.realpath(__file__))) if path.exists()]
