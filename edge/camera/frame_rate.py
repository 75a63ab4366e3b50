"""Which pictures of a camera become frames, where it gives more than somebody wants."""

from typing import NamedTuple

_ROUNDING = 1e-9
"""Three times a third is one."""


class _Wanted(NamedTuple):
    """One value, so that a thread which sets it and one which reads it need no lock."""

    share: float
    reason: str


class FrameRate:
    """Passes over pictures, evenly spread. `slow_down` may be called on any thread, the rest on one."""

    def __init__(self) -> None:
        self._wanted = _Wanted(1.0, "")
        self._credit = 0.0

    def slow_down(self, share: float, reason: str) -> None:
        """From now on take so large a share of the pictures: 1 takes all, 0 none.

        Raises:
            ValueError: it is no share.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a share is from 0 to 1, and not {share}")
        self._wanted = _Wanted(share, reason)

    def passed_over(self) -> str:
        """Why the picture that has come is not to become a frame; empty: it is."""
        share, reason = self._wanted
        self._credit += share
        if self._credit < 1 - _ROUNDING:
            return reason
        self._credit = max(0.0, self._credit - 1)
        return ""
